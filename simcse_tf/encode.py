"""`python -m simcse_tf.encode`: a file's lines as rows of a NumPy array."""

from collections.abc import Sequence

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.compilation_cache import keep_compiled
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.arguments import add_reading_flags, reading_of, say_how_read
from simcse_tf.encoding.bulk import encode
from simcse_tf.encoding.file import check_files, encode_file
from simcse_tf.encoding.process import one_core_an_operation, share_heaps

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
    parser.add_argument("--input", required=True, metavar="FILE.txt")
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

    keep_compiled()
    one_core_an_operation()
    share_heaps()
    from simcse_tf.model.simcse import SimCSE

    model = SimCSE.from_preset(
        arguments.model, dtype=arguments.precision, **reading_of(arguments)
    )
    say_how_read(model, arguments.model)
    lines = encode_file(model, arguments.input, arguments.output, arguments.batch_size)
    print(f"{arguments.output}: {lines} sentences, {model.embedding_dim} dimensions")


if __name__ == "__main__":
    run(main)
