"""`python -m simcse_tf.evaluate`: a model's scores on STS, transfer and own tasks."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.compilation_cache import keep_compiled
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.core.outputs import output_file, writing_output

if TYPE_CHECKING:
    from simcse_tf.evaluation.results import Scoring


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    names = [name for name in (arguments.model, arguments.compare) if name]
    outputs = _outputs(arguments, names)

    keep_compiled()
    from simcse_tf.evaluation import results, score_tables
    from simcse_tf.evaluation.tasks import find_data, load_tasks, named_data

    scoring = _scoring(arguments)
    wanted = arguments.tasks.split(",") if arguments.tasks else None
    found = find_data(named_data(arguments.data))
    tasks = load_tasks(found, wanted, arguments.split)

    from simcse_tf.encoding.arguments import reading_of
    from simcse_tf.encoding.model_encoder import load_encoder

    reading = reading_of(arguments)
    # All of them before one encodes: a wrong name must not cost minutes.
    encoders = [
        load_encoder(
            name,
            truncate_dim=arguments.truncate_dim,
            progress=True,
            normalize=False,
            precision=arguments.precision,
            **reading,
        )
        for name in names
    ]
    measured = [
        results.measure(encode, tasks, scoring, progress=True) for encode in encoders
    ]
    first, *others = measured
    comparisons = results.compare(first, others[0], tasks, scoring) if others else {}

    # One model needs no name in its table.
    titles = names if arguments.compare else [""]
    if tasks.sts:
        print(score_tables.format_sts(titles, measured, comparisons))
    if tasks.own:
        print(score_tables.format_own(titles, measured, comparisons))
    if tasks.transfer:
        print(score_tables.format_transfer(titles, measured))
        print(score_tables.format_seconds(titles, measured))
    if arguments.json:
        with writing_output("--json", arguments.json):
            write_json(outputs["--json"], first.scores())
    if arguments.details:
        keys = ("split", "metric", "aggregation", "fast", "truncate_dim", "precision")
        details = {
            **{key: getattr(arguments, key) for key in keys},
            **reading,
            "models": [
                {"model": name, **result.details(tasks)}
                for name, result in zip(names, measured, strict=True)
            ],
            "differences": {task: c._asdict() for task, c in comparisons.items()},
        }
        with writing_output("--details", arguments.details):
            write_json(outputs["--details"], details)


def _parser() -> Parser:
    from simcse_tf.encoding.arguments import add_precision_flag, add_reading_flags
    from simcse_tf.evaluation.sts import AGGREGATIONS, METRICS

    parser = Parser(
        "simcse_tf.evaluate",
        description="A model's scores, times 100, on STS tasks, transfer tasks and "
        "data of your own.",
    )
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    add_reading_flags(parser, cut="where the encoder has no more positions")
    add_precision_flag(parser)
    parser.add_argument(
        "--tasks",
        help="sts, transfer, own, names such as STS12,SICK-R,MR, or several of these; "
        "default: STS and all data of your own",
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="PATH",
        help="SentEval directory (STS/, SICK/, MR/ ...), one in BEIR's layout, or a "
        "table of scored pairs or triplets; several, also as NAME=PATH",
    )
    parser.add_argument(
        "--split",
        choices=("dev", "test"),
        default="test",
        help="dev: of transfer tasks the accuracy that C was chosen by",
    )
    parser.add_argument("--metric", choices=tuple(METRICS), default="spearman")
    parser.add_argument(
        "--aggregation",
        choices=AGGREGATIONS,
        default="all",
        help="of a task's subsets: all pairs together, or the (weighted) mean",
    )
    parser.add_argument(
        "--fast", action="store_true", help="transfer tasks with 5 folds instead of 10"
    )
    parser.add_argument(
        "--truncate-dim",
        type=int,
        metavar="N",
        help="score the first N dimensions alone; default: all",
    )
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second model, read by the same flags"
    )
    parser.add_argument("--json", metavar="OUT", help="write the unrounded scores")
    parser.add_argument(
        "--details", metavar="OUT", help="write everything: subsets, intervals, seconds"
    )
    return parser


def _outputs(arguments: Namespace, models: Sequence[str]) -> dict[str, Path]:
    named = {"--json": arguments.json, "--details": arguments.details}
    files = {
        flag: output_file(flag, path, inputs=models)
        for flag, path in named.items()
        if path
    }
    if len(set(files.values())) < len(files):
        raise UserError(
            f"--details: expected another file than {arguments.json}, the one of --json"
        )
    return files


def _scoring(arguments: Namespace) -> Scoring:
    from simcse_tf.evaluation.results import Scoring
    from simcse_tf.evaluation.transfer import FAST_FOLDS, FOLDS

    return Scoring(
        arguments.metric,
        arguments.aggregation,
        arguments.split,
        FAST_FOLDS if arguments.fast else FOLDS,
    )


if __name__ == "__main__":
    run(main)
