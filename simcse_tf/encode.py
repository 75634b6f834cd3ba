"""Bulk encoding: many sentences to one array, in batches of similar length."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from simcse_tf.cli import Parser, run
from simcse_tf.errors import UserError
from simcse_tf.files import whole_file

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# Sentences sorted and tokenized at a time: enough for batches of like length, few
# enough that memory does not depend on how many there are in all.
_BLOCK = 16384
# A single batch leaves cores idle between its operations; past some batches at a time
# memory grows and nothing else does.
_THREADS = min(4, os.cpu_count() or 1)


def encode(
    model: Any,
    sentences: Any,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
    out: np.ndarray | None = None,
    normalize: bool = True,
) -> np.ndarray:
    """Embeds sentences faster than `predict`.

    Sorted by length, little is padding; what occurs more than once among some
    thousands of sentences is computed once; batches run side by side.

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
    from tqdm import tqdm

    if out is None:
        out = np.empty((len(sentences), model.embedding_dim), np.float32)
    max_length = max_length or model.max_length
    weights = model.inference_weights()

    def embed(tokens: Any) -> np.ndarray:
        return model.traced_infer(weights, model.pad(tokens), normalize).numpy()

    starts = range(0, len(sentences), _BLOCK)
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(
            total=len(sentences), unit="sentence", desc="encoding", disable=not progress
        ) as bar,
    ):
        blocks = (sentences[start : start + _BLOCK] for start in starts)
        tokenized = _one_ahead(
            pool, lambda block: _distinct_tokens(model, block, max_length), blocks
        )
        for start, (tokens, places) in zip(starts, tokenized, strict=True):
            repeats = np.bincount(places)
            embeddings = np.empty((len(repeats), model.embedding_dim), np.float32)
            for rows, embedded in _embedded(pool, embed, tokens, batch_size):
                embeddings[rows] = embedded
                bar.update(int(repeats[rows].sum()))
            out[start : start + len(places)] = embeddings[places]
    return out


def _embedded(
    pool: Executor, embed: Callable[[Any], np.ndarray], tokens: Any, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of `tokens` and their embeddings, batches of similar length side by side."""
    import tensorflow as tf

    # The longest first: what does not fit in memory fails at once.
    order = np.argsort(-tokens.row_lengths().numpy(), kind="stable")
    starts = range(0, len(order), batch_size)
    batches = [order[start : start + batch_size] for start in starts]
    done = pool.map(lambda rows: embed(tf.gather(tokens, rows)), batches)
    return zip(batches, done, strict=True)


def _one_ahead(
    pool: Executor, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """`map`, with the next result on its way while one is being used."""
    ahead: deque[Future] = deque()
    for item in items:
        ahead.append(pool.submit(function, item))
        if len(ahead) > 1:
            yield ahead.popleft().result()
    if ahead:
        yield ahead.popleft().result()


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


def _distinct_tokens(model: Any, block: Any, max_length: int) -> tuple[Any, np.ndarray]:
    """The tokens of a block's distinct sentences, and which of them each one is."""
    import tensorflow as tf

    from simcse_tf.model import string_tensor

    distinct, places = tf.unique(string_tensor(block))
    return model.tokenizer(distinct, max_length), places.numpy()


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
