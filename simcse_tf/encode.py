"""`python -m simcse_tf.encode`: a file's texts to a file of embeddings."""

import argparse
import sys
from collections.abc import Sequence

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.compilation_cache import keep_compiled
from simcse_tf.core.errors import UserError
from simcse_tf.core.steady_lines import SteadyLines
from simcse_tf.data.file_formats import QUOTED, UNQUOTED
from simcse_tf.encoding.arguments import (
    add_precision_flag,
    add_reading_flags,
    reading_of,
    say_how_read,
)
from simcse_tf.encoding.embedding_files import BINARY, FLOAT32, INT8, check_metadata
from simcse_tf.encoding.embedding_writers import FORMATS, NPY, format_of
from simcse_tf.encoding.file import OutputForm, check_files, encode_file
from simcse_tf.encoding.process import one_core_an_operation, share_heaps
from simcse_tf.encoding.records import FileRecords
from simcse_tf.encoding.steady_records import SteadyRecords
from simcse_tf.encoding.texts import FileTexts
from simcse_tf.model.bulk import encode

__all__ = ["encode", "main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Embeds the file that the command line names.

    Args:
        argv: Optional strings. Defaults to `sys.argv` without the program's name.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    main(["--model", "runs/mine/best", "--input", "in.txt", "--output", "out.npy"])
    ```
    """
    arguments = _parser().parse_args(argv)
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise UserError(f"--batch-size: expected 1 or more, got {arguments.batch_size}")
    check_files(arguments.input, arguments.output, arguments.model)
    form = _form(arguments)
    texts = _texts(arguments, form)

    keep_compiled()
    one_core_an_operation()
    share_heaps()
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(
        arguments.model, dtype=arguments.precision, **reading_of(arguments)
    )
    say_how_read(model, arguments.model)
    encode_file(
        model, arguments.input, arguments.output, arguments.batch_size, texts, form
    )
    print(
        f"{arguments.output}: {len(texts)} sentences, "
        f"{form.truncate_dim or model.embedding_dim} dimensions"
    )


def _parser() -> Parser:
    parser = Parser("simcse_tf.encode", description="Embed a file, one row a line.")
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="a text a line, or .csv, .tsv, .jsonl or .parquet; also .gz and .zst",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the input's column; default: the only one, or text or sentence",
    )
    parser.add_argument(
        "--quoting", choices=(QUOTED, UNQUOTED), help="of a .csv or .tsv input"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="OUT",
        help="a .npy, .parquet or .jsonl file",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="of the output; default: its name says it"
    )
    parser.add_argument(
        "--quantize", choices=(INT8, BINARY), help="smaller numbers: a byte, or a bit"
    )
    parser.add_argument(
        "--truncate-dim", type=int, metavar="N", help="keep the first N dimensions"
    )
    parser.add_argument(
        "--id-column",
        metavar="NAME",
        help="for Parquet and JSONL; default: id or _id, or the row counted from 0",
    )
    parser.add_argument(
        "--with-text", action="store_true", help="for Parquet and JSONL: the texts too"
    )
    parser.add_argument(
        "--metadata",
        nargs="*",
        metavar="NAME",
        help="for Parquet and JSONL: columns that come along; without names, all",
    )
    parser.add_argument(
        "--batch-size", type=int, help="at most; by default 64, on a GPU 2048"
    )
    add_precision_flag(parser)
    add_reading_flags(parser)
    return parser


def _form(arguments: argparse.Namespace) -> OutputForm:
    """How the output is to be written."""
    form = OutputForm(
        format_of(arguments.output, arguments.format),
        arguments.quantize or FLOAT32,
        arguments.truncate_dim,
        arguments.with_text,
        arguments.model,
    )
    if form.truncate_dim is not None and form.truncate_dim < 1:
        raise UserError(f"--truncate-dim: expected 1 or more, got {form.truncate_dim}")
    for flag in ("--id-column", "--with-text", "--metadata"):
        asked = getattr(arguments, flag[2:].replace("-", "_"))
        if form.format == NPY and asked not in (None, False):
            raise UserError(
                f"{flag}: {arguments.output} would be a NumPy file, which has rows "
                "alone: expected --format parquet or jsonl"
            )
    return form


def _texts(
    arguments: argparse.Namespace, form: OutputForm
) -> SteadyLines | SteadyRecords:
    """The input's texts, with all that the output says of them."""
    path, column = arguments.input, arguments.column
    if form.format == NPY:
        texts = FileTexts(path, column, arguments.quoting)
        lines = SteadyLines(path, texts)
        if texts.column is not None:
            print(f"{path}: column {texts.column}", file=sys.stderr)
        return lines
    records = FileRecords(
        path,
        text=column,
        id=arguments.id_column,
        metadata=_metadata(arguments),
        quoting=arguments.quoting,
        flags=("--column", "--id-column"),
    )
    if records.description:
        print(f"{path}: {records.description}", file=sys.stderr)
    steady = SteadyRecords(path, records)
    check_metadata(field.name for field in steady.fields)
    return steady


def _metadata(arguments: argparse.Namespace) -> list[str] | None:
    """The columns that come along; `None`: all others."""
    if arguments.metadata is None:
        return []
    return arguments.metadata or None


if __name__ == "__main__":
    run(main)
