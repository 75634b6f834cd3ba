"""`python -m simcse_tf.train`: a training run from a config."""

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.training.sigterm import Stop, stopping


def _split_cpu(count: int, strategy: str) -> None:
    if count < 1:
        raise UserError(f"--logical-devices: expected 1 or more, received {count}")
    if strategy == "multi_worker":
        raise UserError(
            "--logical-devices: multi_worker takes one CPU device of each worker; "
            "start more workers instead"
        )
    from simcse_tf.distributed.strategy import split_cpu

    split_cpu(count)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("simcse_tf.train", description="Train SimCSE from a JSON config.")
    parser.add_argument("--config", required=True, metavar="CONFIG.json")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key.sub=value",
        help="values over the config's, e.g. training.batch_size=64",
    )
    parser.add_argument(
        "--resume", action="store_true", help="resume the run in output_dir"
    )
    parser.add_argument(
        "--logical-devices",
        type=int,
        metavar="N",
        help="split the CPU into N devices, to try training.strategy=mirrored",
    )
    arguments = parser.parse_args(argv)
    # Before the imports: they take seconds.
    with stopping() as stop:
        _train(arguments, stop)


def _train(arguments: argparse.Namespace, stop: Stop) -> None:
    from simcse_tf.core.compilation_cache import keep_compiled
    from simcse_tf.training.config import as_begun, load_config
    from simcse_tf.training.run_data import open_run
    from simcse_tf.training.run_directory import RunDirectory

    config = load_config(arguments.config, arguments.set)
    directory = RunDirectory(config.output_dir)
    if arguments.resume and directory.has_begun():
        given, config = config, as_begun(config, directory.config)
        for key, value in config.flat().items():
            if given.flat()[key] != value:
                print(f"{key} is {json.dumps(value)}, as when the run began")
    stop.advice = lambda: (
        "pass --resume to resume"
        if directory.has_begun()
        else "the same command begins anew"
    )
    keep_compiled()
    if arguments.logical_devices is not None:
        _split_cpu(arguments.logical_devices, config.training.strategy)
    # A mistake is reported before TensorFlow is imported, but not where other workers
    # would wait long for one that has not joined them.
    alone = config.training.strategy != "multi_worker"
    with open_run(config, arguments.resume) if alone else nullcontext() as data:
        from simcse_tf.training.run import train

        train(config, arguments.resume, data)


if __name__ == "__main__":
    run(main)
