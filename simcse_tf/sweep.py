"""`python -m simcse_tf.sweep`: one training run for each setting and seed, compared."""

import argparse
from collections.abc import Sequence

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.core.extras import require
from simcse_tf.training.sigterm import stopping


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(
        "simcse_tf.sweep", description="Train and compare settings over seeds."
    )
    parser.add_argument("--config", required=True, metavar="BASE.json")
    parser.add_argument("--grid", required=True, metavar="GRID.json")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key.sub=value",
        help="values over the base config's, e.g. output_dir=runs/table-1",
    )
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        raise UserError(f"--seeds: expected 1 or more, received {arguments.seeds}")
    with stopping() as stop:
        stop.advice = lambda: "the same command resumes the sweep"
        _sweep(arguments)


def _sweep(arguments: argparse.Namespace) -> None:
    from simcse_tf.training.run_directory import writing
    from simcse_tf.training.sweep import check, claimed, train_all
    from simcse_tf.training.sweep_plan import plan, read_grid
    from simcse_tf.training.sweep_summary import format_table, summarize, write_summary

    require("matplotlib")
    settings = read_grid(arguments.grid)
    runs = plan(arguments.config, settings, arguments.seeds, arguments.set)
    # A run is in SWEEP/SETTING/SEED.
    directory = runs[0].directory.path.parents[1]
    with claimed(directory):
        train_all(runs, check(runs))
        # The data may have changed from one run to the next.
        check(runs)
        table = summarize(runs)
        with writing(directory):
            write_summary(directory, table)
    print(format_table(table))
    print(f"{directory / 'sweep.md'}, .json, .png and .svg")


if __name__ == "__main__":
    run(main)
