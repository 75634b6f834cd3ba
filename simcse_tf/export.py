"""`python -m simcse_tf.export`: what TF Serving or sentence-transformers loads."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.arguments import add_reading_flags, reading_of, say_how_read
from simcse_tf.exporting.hub import check_push, push
from simcse_tf.exporting.saved_model import PRECISIONS, export, report_stage
from simcse_tf.exporting.versions import (
    check_base_directory,
    check_new_directory,
    version_directory,
)
from simcse_tf.indexing.index import Index

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

__all__ = ["export", "main"]

SAVED_MODEL = "saved_model"
SENTENCE_TRANSFORMERS = "sentence-transformers"


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
    elif arguments.format == SAVED_MODEL:
        if arguments.push or arguments.private:
            parser.error(f"--push and --private need --format {SENTENCE_TRANSFORMERS}")
        _export(arguments)
    else:
        if arguments.private and not arguments.push:
            parser.error("--private needs --push")
        _export_sentence_transformers(arguments)


def _parser() -> Parser:
    parser = Parser("simcse_tf.export", description="Write a model to serve.")
    parser.add_argument("--model", help="directory, preset or handle")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help=f"where versions are, or a new directory for {SENTENCE_TRANSFORMERS}",
    )
    parser.add_argument(
        "--format",
        choices=(SAVED_MODEL, SENTENCE_TRANSFORMERS),
        default=SAVED_MODEL,
        help=f"for TF Serving, or for {SENTENCE_TRANSFORMERS}, transformers and TEI",
    )
    parser.add_argument(
        "--push",
        metavar="ORG/NAME",
        help=f"uploads the {SENTENCE_TRANSFORMERS} directory to the Hugging Face hub",
    )
    parser.add_argument(
        "--private", action="store_true", help="a repository made by --push is private"
    )
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
    parser.add_argument(
        "--index",
        metavar="DIR",
        help="adds the signature search, and the index that the model built",
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
    check_base_directory(Path(arguments.output), arguments.model)
    index = _index(arguments) if arguments.index else None
    version = export(
        _load(arguments),
        arguments.output,
        truncate_dims=arguments.truncate_dims,
        quantize=arguments.quantize,
        index=index,
        source=arguments.model,
        progress=True,
    )
    print(f"version {version}")


def _export_sentence_transformers(arguments: argparse.Namespace) -> None:
    for flag in ("truncate_dims", "quantize", "index"):
        if getattr(arguments, flag):
            raise UserError(
                f"--{flag.replace('_', '-')} is a signature of a SavedModel; who loads "
                f"a {SENTENCE_TRANSFORMERS} directory asks for it then"
            )
    check_new_directory(Path(arguments.output))
    if arguments.push:
        check_push(arguments.push)
    model = _load(arguments)
    from simcse_tf.exporting.sentence_transformers import export_sentence_transformers

    directory = export_sentence_transformers(
        model,
        arguments.output,
        name=arguments.push,
        source=arguments.model,
        progress=True,
    )
    print(f"directory {directory}")
    if arguments.push:
        report_stage(True, f"uploading to {arguments.push}")
        print(f"commit {push(directory, arguments.push, arguments.private)}")


def _index(arguments: argparse.Namespace) -> Index:
    if arguments.precision != "float32":
        raise UserError(
            f"--precision {arguments.precision}: expected float32 with --index, whose "
            "embeddings are of the model in float32"
        )
    try:
        return Index.open(arguments.index)
    except UserError as error:
        raise UserError(f"--index: {error}") from None


def _load(arguments: argparse.Namespace) -> "SimCSE":
    report_stage(True, f"loading {arguments.model}")
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(
        arguments.model, dtype=arguments.precision, **reading_of(arguments)
    )
    say_how_read(model, arguments.model)
    return model


def _check(directory: Path) -> None:
    version = version_directory(directory)
    from simcse_tf.exporting.check import check, summary

    try:
        print(summary(version, check(version)))
    except UserError as error:
        raise UserError(f"{version}: {error}") from None


if __name__ == "__main__":
    run(main)
