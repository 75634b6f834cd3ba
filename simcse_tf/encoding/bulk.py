"""Bulk encoding: many sentences to one array, in batches of similar length."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from simcse_tf.evaluation.caching import Encoder
    from simcse_tf.model.simcse import SimCSE

Texts: TypeAlias = Sequence[str] | Sequence[bytes] | np.ndarray
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Sentences sorted and tokenized at a time: enough for batches of similar length, few
# enough that memory does not depend on how many there are in all.
BLOCK = 16384
# Batches side by side: a single one leaves cores idle between its operations.
_THREADS = os.cpu_count() or 1
# The most tokens of a batch, padding included. In a larger batch a token costs no
# less, and memory grows.
_MAX_TOKENS = 4096


def encode(
    model: SimCSE,
    sentences: Texts,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
    out: np.ndarray | None = None,
    normalize: bool = True,
) -> np.ndarray:
    """Embeds sentences faster than `predict`.

    Batches hold sentences of similar length, so that little is padding; a sentence
    that occurs more than once among some thousands is computed once; batches run side
    by side.

    Args:
        model: A `simcse_tf.SimCSE`.
        sentences: Sequence of `n` strings.
        batch_size: int. Sentences encoded at a time, fewer where they are long.
            Defaults to `64`.
        max_length: Optional int. Tokens a sentence is cut at, in place of the
            model's own.
        progress: bool. Whether to show a progress bar on stderr. Defaults to
            `False`.
        out: Optional float32 array of shape `(n, embedding_dim)` to write to, e.g.
            a memory map.
        normalize: bool. Whether rows are scaled to unit length. Defaults to `True`.

    Returns:
        float32 array of shape `(n, embedding_dim)` in the order of `sentences`.

    Example:

    ```python
    encode(model, ["A man plays.", "A dog runs."])  # float32, (2, 768)
    ```
    """
    if out is None:
        out = np.empty((len(sentences), model.embedding_dim), np.float32)
    starts = range(0, len(sentences), BLOCK)
    blocks = (sentences[start : start + BLOCK] for start in starts)
    with progress_bar(len(sentences), progress) as bar:
        embedded = encode_blocks(
            model, blocks, batch_size, max_length, normalize, bar.update
        )
        for start, rows in zip(starts, embedded, strict=True):
            out[start : start + len(rows)] = rows
    return out


def encode_blocks(
    model: SimCSE,
    blocks: Iterable[Texts],
    batch_size: int = 64,
    max_length: int | None = None,
    normalize: bool = True,
    advance: Callable[[int], Any] = lambda sentences: None,
) -> Iterator[np.ndarray]:
    """`encode` of a stream, in memory that does not depend on its length.

    Args:
        model: A `simcse_tf.SimCSE`.
        blocks: Iterable of sequences of strings, some thousands each. The next one
            is tokenized while one is computed.
        batch_size: int. As for `encode`.
        max_length: Optional int. As for `encode`.
        normalize: bool. As for `encode`.
        advance: Called with the number of sentences done since it was last called.

    Yields:
        float32 array of shape `(n, embedding_dim)` for every block of `n` strings.

    Example:

    ```python
    for rows in encode_blocks(model, blocks_of(read_raw_lines("sentences.txt"))):
        file.write(rows.tobytes())
    ```
    """
    max_length = max_length or model.max_length
    infer = model.inference(normalize)

    def embed(tokens: tf.RaggedTensor) -> np.ndarray:
        embeddings: np.ndarray = infer(model.pad(tokens)).numpy()
        return embeddings

    with ThreadPoolExecutor(_THREADS) as pool:
        tokenized = _one_ahead(
            pool, lambda block: _distinct_tokens(model, block, max_length), blocks
        )
        for tokens, places in tokenized:
            repeats = np.bincount(places)
            embeddings = np.empty((len(repeats), model.embedding_dim), np.float32)
            for rows, embedded in _embedded(pool, embed, tokens, batch_size):
                embeddings[rows] = embedded
                advance(int(repeats[rows].sum()))
            yield embeddings[places]


def blocks_of(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines as blocks for `encode_blocks`.

    Example:

    ```python
    next(blocks_of(read_raw_lines("sentences.txt")))  # [b"A man plays.", ...]
    ```
    """
    lines = iter(lines)
    while block := list(islice(lines, BLOCK)):
        yield block


def progress_bar(sentences: int, progress: bool, done: int = 0) -> Any:
    """A bar on stderr that counts sentences.

    Args:
        sentences: int. How many there are in all.
        progress: bool. Whether the bar is shown.
        done: int. How many are encoded already. Defaults to `0`.

    Returns:
        `tqdm.tqdm`, a context manager.

    Example:

    ```python
    with progress_bar(len(sentences), True) as bar:
        bar.update(64)
    ```
    """
    from tqdm import tqdm

    return tqdm(
        total=sentences,
        initial=done,
        unit="sentence",
        desc="encoding",
        disable=not progress,
    )


def _embedded(
    pool: Executor,
    embed: Callable[[tf.RaggedTensor], np.ndarray],
    tokens: tf.RaggedTensor,
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of `tokens` and their embeddings, batches of similar length side by side."""
    import tensorflow as tf

    batches = list(_batches(tokens.row_lengths().numpy(), batch_size))
    done = pool.map(lambda rows: embed(tf.gather(tokens, rows)), batches)
    return zip(batches, done, strict=True)


def _batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Rows of similar length, each once; the longest first."""
    # What does not fit in memory fails at once.
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        rows = min(batch_size, max(1, _MAX_TOKENS // longest))
        yield order[start : start + rows]
        start += rows


def _one_ahead(
    pool: Executor, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """`map` that computes the next result while the caller uses the last one."""
    ahead: deque[Future[_Result]] = deque()
    for item in items:
        ahead.append(pool.submit(function, item))
        if len(ahead) > 1:
            yield ahead.popleft().result()
    if ahead:
        yield ahead.popleft().result()


def encoder(
    model: SimCSE,
    max_length: int | None = None,
    progress: bool = False,
    normalize: bool = True,
) -> Callable[[list[str]], np.ndarray]:
    """`encode` of one model as a function of the sentences alone.

    Args:
        model: A `simcse_tf.SimCSE`.
        max_length: Optional int. As for `encode`.
        progress: bool. As for `encode`.
        normalize: bool. As for `encode`.

    Example:

    ```python
    evaluate_pairs(encoder(model), {"STSBenchmark": pairs})
    ```
    """
    return lambda sentences: encode(
        model,
        sentences,
        max_length=max_length,
        progress=progress,
        normalize=normalize,
    )


def load_encoder(
    model: str,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    prompt_name: str | None = None,
    progress: bool = False,
    normalize: bool = True,
) -> Encoder:
    """Loads a model as a function of sentences alone, for evaluation.

    Sentences are cut where the backbone has no more positions, not at the model's own
    `max_length`, as in the paper's code.

    Args:
        model: string. What `SimCSE.from_preset` takes.
        pooling: Optional string. The pooler in place of the checkpoint's own.
        max_length: Optional int. Tokens a sentence is cut at.
        prompt_name: Optional string. Which of the checkpoint's prompts is used, in
            place of its default.
        progress: bool. Whether stderr shows how a foreign model was read, and progress
            bars. Defaults to `False`.
        normalize: bool. Whether rows are l2-normalized. Defaults to `True`.

    Returns:
        A function from a list of n strings to a float32 array `(n, embedding_dim)`.

    Raises:
        UserError: If the model cannot be loaded.

    Example:

    ```python
    encode = load_encoder("runs/mine/best")
    encode(["A man is playing a guitar."]).shape  # (1, 768)
    ```
    """
    from simcse_tf.encoders.base import longest_input
    from simcse_tf.encoding.arguments import say_how_read
    from simcse_tf.model.simcse import SimCSE

    loaded = SimCSE.from_preset(
        model, pooling=pooling, max_length=max_length, prompt_name=prompt_name
    )
    length = max_length or longest_input(loaded.backbone)
    if progress:
        say_how_read(loaded, model, length)
    return encoder(loaded, length, progress, normalize)


def _distinct_tokens(
    model: SimCSE, block: Texts, max_length: int
) -> tuple[tf.RaggedTensor, np.ndarray]:
    """The tokens of a block's distinct sentences, and which of them each one is."""
    import tensorflow as tf

    from simcse_tf.model.text_inputs import string_tensor

    distinct, places = tf.unique(string_tensor(block))
    return model.tokens(distinct, max_length), places.numpy()
