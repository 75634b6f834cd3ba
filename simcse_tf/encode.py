"""`python -m simcse_tf.encode`: a file's lines as rows of a NumPy array."""

import sys
from collections.abc import Sequence

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.compilation_cache import keep_compiled
from simcse_tf.core.errors import UserError
from simcse_tf.core.steady_lines import SteadyLines
from simcse_tf.data.file_formats import QUOTED, UNQUOTED
from simcse_tf.encoding.arguments import add_reading_flags, reading_of, say_how_read
from simcse_tf.encoding.bulk import encode
from simcse_tf.encoding.file import check_files, encode_file
from simcse_tf.encoding.process import one_core_an_operation, share_heaps
from simcse_tf.encoding.texts import FileTexts

__all__ = ["encode", "main"]

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


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
    parser.add_argument("--output", required=True, metavar="OUT.npy")
    parser.add_argument(
        "--batch-size", type=int, help="at most; by default 64, on a GPU 2048"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    add_reading_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise UserError(f"--batch-size: expected 1 or more, got {arguments.batch_size}")
    check_files(arguments.input, arguments.output, arguments.model)
    texts = FileTexts(arguments.input, arguments.column, arguments.quoting)
    lines = SteadyLines(arguments.input, texts)
    if texts.column is not None:
        print(f"{arguments.input}: column {texts.column}", file=sys.stderr)

    keep_compiled()
    one_core_an_operation()
    share_heaps()
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(
        arguments.model, dtype=arguments.precision, **reading_of(arguments)
    )
    say_how_read(model, arguments.model)
    encode_file(model, arguments.input, arguments.output, arguments.batch_size, lines)
    print(
        f"{arguments.output}: {len(lines)} sentences, {model.embedding_dim} dimensions"
    )


if __name__ == "__main__":
    run(main)
