"""`python -m simcse_tf.export`: the SavedModel that TF Serving runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.arguments import add_reading_flags, reading_of, say_how_read
from simcse_tf.exporting.saved_model import PRECISIONS, export, report_stage
from simcse_tf.exporting.versions import version_directory

__all__ = ["export", "main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Exports a model, or checks an export, as the command line asks.

    Args:
        argv: Optional strings. Defaults to `sys.argv` without the program's name.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    main(["--check", "exports/simcse"])
    ```
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.check is not None:
        if arguments.model or arguments.output:
            parser.error("--check takes no --model and no --output")
        _check(Path(arguments.check))
    elif arguments.model is None or arguments.output is None:
        parser.error("expected --model and --output, or --check")
    else:
        _export(arguments)


def _parser() -> Parser:
    parser = Parser("simcse_tf.export", description="Write a SavedModel to serve.")
    parser.add_argument("--model", help="directory, preset or handle")
    parser.add_argument("--output", metavar="BASE_DIR")
    add_reading_flags(parser)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="what the model computes in; embeddings are float32",
    )
    parser.add_argument(
        "--truncate-dims",
        type=_numbers,
        default=[],
        metavar="N[,M]",
        help="adds a signature serving_N for each",
    )
    parser.add_argument(
        "--quantize",
        type=lambda text: text.split(","),
        default=[],
        metavar="int8,binary",
        help="adds the signatures serving_int8, serving_binary",
    )
    parser.add_argument("--check", metavar="DIR", help="verify an export that is there")
    return parser


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 128,256, received {text!r}"
        ) from None


def _export(arguments: argparse.Namespace) -> None:
    if Path(arguments.output).exists() and not Path(arguments.output).is_dir():
        raise UserError(f"--output: {arguments.output} is not a directory")

    report_stage(True, f"loading {arguments.model}")
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(
        arguments.model, dtype=arguments.precision, **reading_of(arguments)
    )
    say_how_read(model, arguments.model)
    version = export(
        model,
        arguments.output,
        truncate_dims=arguments.truncate_dims,
        quantize=arguments.quantize,
        source=arguments.model,
        progress=True,
    )
    print(f"version {version}")


def _check(directory: Path) -> None:
    version = version_directory(directory)
    from simcse_tf.exporting.check import check, summary

    try:
        print(summary(version, check(version)))
    except UserError as error:
        raise UserError(f"{version}: {error}") from None


if __name__ == "__main__":
    run(main)
