"""Bulk encoding: many sentences to one array, in batches of similar length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simcse_tf.cli import Parser, run
from simcse_tf.errors import UserError
from simcse_tf.files import whole_file

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# Sentences tokenized at a time: enough to keep the tokenizer's threads busy, few
# enough that their strings never count.
_TOKENIZED_AT_ONCE = 4096


def encode(
    model: Any,
    sentences: Any,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
    out: np.ndarray | None = None,
    normalize: bool = True,
) -> np.ndarray:
    """Embeds sentences faster than `predict`: sorted by length, little is padding.

    Args:
        model: A `simcse_tf.SimCSE`.
        sentences: Sequence of `n` strings.
        batch_size: int. Sentences encoded at a time. Defaults to `64`.
        max_length: Optional int. Tokens a sentence is cut at, in place of the
            model's own.
        progress: bool. Whether to show a progress bar on stderr. Defaults to
            `False`.
        out: Optional float32 array of shape `(n, embedding_dim)` to write to, e.g.
            a memory map.
        normalize: bool. Whether rows are scaled to unit length. Defaults to `True`.

    Returns:
        float32 array of shape `(n, embedding_dim)` in the order of `sentences`.
    """
    import tensorflow as tf
    from tqdm import tqdm

    if out is None:
        out = np.empty((len(sentences), model.embedding_dim), np.float32)
    if not len(sentences):
        return out
    tokens = _tokens(model, sentences, max_length or model.max_length)
    # The longest first: what does not fit in memory fails at once.
    order = np.argsort(-tokens.row_lengths().numpy(), kind="stable")
    with tqdm(
        total=len(order), unit="sentence", desc="encoding", disable=not progress
    ) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            out[rows] = model.embed(
                model.pad(tf.gather(tokens, rows)), normalize=normalize
            )
            bar.update(len(rows))
    return out


def encoder(
    model: Any,
    max_length: int | None = None,
    progress: bool = False,
    normalize: bool = True,
) -> Callable[[list[str]], np.ndarray]:
    """`encode` of one model as a function of the sentences alone."""
    return lambda sentences: encode(
        model,
        sentences,
        max_length=max_length,
        progress=progress,
        normalize=normalize,
    )


def _tokens(model: Any, sentences: Any, max_length: int) -> Any:
    import tensorflow as tf

    from simcse_tf.model import string_tensor

    starts = range(0, len(sentences), _TOKENIZED_AT_ONCE)
    chunks = (sentences[start : start + _TOKENIZED_AT_ONCE] for start in starts)
    parts = [model.tokenizer(string_tensor(chunk), max_length) for chunk in chunks]
    return tf.concat(parts, axis=0)


def read_lines(path: str) -> list[bytes]:
    """The lines of a file as they are, an empty one included, without line breaks.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror}") from None
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    return [line.removesuffix(b"\r") for line in lines]


def encode_file(model: Any, lines: list[bytes], output: str, batch_size: int) -> None:
    """Writes a NumPy file with one row a line, whole or not at all.

    Args:
        model: A `simcse_tf.SimCSE`.
        lines: `n` texts.
        output: string. The `.npy` file: float32, `(n, embedding_dim)`.
        batch_size: int. Sentences encoded at a time.
    """
    shape = (len(lines), model.embedding_dim)
    try:
        with whole_file(output) as path:
            rows = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            encode(model, lines, batch_size, progress=True, out=rows)
            rows.flush()
    except OSError as error:
        raise UserError(f"--output: cannot write {output}: {error.strerror}") from None


def main() -> None:
    parser = Parser("simcse_tf.encode", description="Embed a file, one row a line.")
    parser.add_argument("--model", required=True, help="directory, preset or handle")
    parser.add_argument("--input", required=True, metavar="FILE.txt")
    parser.add_argument("--output", required=True, metavar="OUT.npy")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    arguments = parser.parse_args()
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size: expected 1 or more, got {arguments.batch_size}")
    lines = read_lines(arguments.input)

    from simcse_tf.model import SimCSE

    model = SimCSE.from_preset(arguments.model, dtype=arguments.precision)
    encode_file(model, lines, arguments.output, arguments.batch_size)
    print(
        f"{arguments.output}: {len(lines)} sentences, {model.embedding_dim} dimensions"
    )


if __name__ == "__main__":
    run(main)
