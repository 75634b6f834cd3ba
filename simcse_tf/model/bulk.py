"""Bulk encoding: many sentences to one array, in batches of similar length."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from simcse_tf.core.vectors import check_finite
from simcse_tf.model.batches import (
    CPU_LIMITS,
    GPU_LIMITS,
    Batch,
    batches,
    check_limit,
    shared_batches,
    whole_batches,
)
from simcse_tf.model.tokens import Tokens, distinct_tokens, mapped

if TYPE_CHECKING:
    from simcse_tf.model.keras_methods import KerasMethods

Texts: TypeAlias = Sequence[str] | Sequence[bytes] | np.ndarray
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Sentences sorted and tokenized at a time: enough for batches of similar length, few
# enough that memory does not depend on how many there are in all.
BLOCK = 16384
CORES = os.cpu_count() or 1
# On each GPU: one batch computes, one is on its way there, and one on its way back.
GPU_BATCHES = 3
# From here on it pays to let XLA compile the few shapes of batches, some seconds each.
COMPILE_FROM = 100_000


def encode(
    model: KerasMethods,
    sentences: Texts,
    batch_size: int | None = None,
    max_length: int | None = None,
    progress: bool = False,
    out: np.ndarray | None = None,
    normalize: bool = True,
    jit_compile: bool | None = None,
) -> np.ndarray:
    """Embeds sentences.

    Batches hold sentences of similar length, so that little is padding; a sentence
    that occurs more than once among some thousands is computed once; batches run side
    by side, on every GPU there is.

    Args:
        model: A `simcse_tf.SimCSE`.
        sentences: Sequence of `n` strings.
        batch_size: Optional int. Sentences encoded at a time, fewer where they are
            long. Defaults to `None`: 64, and 2,048 on a GPU.
        max_length: Optional int. Tokens a sentence is cut at, in place of the
            model's own.
        progress: bool. Whether to show a progress bar on stderr. Defaults to
            `False`.
        out: Optional float32 array of shape `(n, embedding_dim)` to write to, e.g.
            a memory map.
        normalize: bool. Whether rows are scaled to unit length. Defaults to `True`.
        jit_compile: Optional bool. Whether XLA compiles whole batches, which takes
            some seconds a shape. Defaults to `None`: on a GPU, from 100,000 sentences
            on.

    Returns:
        float32 array of shape `(n, embedding_dim)` in the order of `sentences`.

    Raises:
        UserError: If `batch_size` is not positive.
        NotFinite: If an embedding is not finite, which is a `UserError`.

    Example:

    ```python
    encode(model, ["A man plays.", "A dog runs."])  # float32, (2, 768)
    ```
    """
    with progress_bar(len(sentences), progress) as bar:
        return encode_array(
            model,
            sentences,
            batch_size,
            bar.update,
            max_length,
            out,
            normalize,
            jit_compile,
        )


def encode_array(
    model: KerasMethods,
    sentences: Texts,
    batch_size: int | None,
    advance: Callable[[int], Any],
    max_length: int | None = None,
    out: np.ndarray | None = None,
    normalize: bool = True,
    jit_compile: bool | None = None,
) -> np.ndarray:
    """`encode`, with any progress bar.

    Args:
        advance: Called with the number of sentences done since it was last called.
            For the other arguments, the result and errors see `encode`.

    Example:

    ```python
    encode_array(model, ["A man plays."], None, bar.add)  # float32, (1, 768)
    ```
    """
    if out is None:
        out = np.empty((len(sentences), model.embedding_dim), np.float32)
    if jit_compile is None:
        jit_compile = pays_to_compile(model, len(sentences))
    starts = range(0, len(sentences), BLOCK)
    blocks = (sentences[start : start + BLOCK] for start in starts)
    embedded = encode_blocks(
        model, blocks, batch_size, max_length, normalize, advance, jit_compile
    )
    for start, rows in zip(starts, embedded, strict=True):
        out[start : start + len(rows)] = rows
    return out


def encode_blocks(
    model: KerasMethods,
    blocks: Iterable[Texts],
    batch_size: int | None = None,
    max_length: int | None = None,
    normalize: bool = True,
    advance: Callable[[int], Any] = lambda sentences: None,
    jit_compile: bool = False,
    first: int = 1,
) -> Iterator[np.ndarray]:
    """`encode` of a stream, in memory that does not depend on its length.

    Args:
        model: A `simcse_tf.SimCSE`.
        blocks: Iterable of sequences of strings, some thousands each. The next one
            is tokenized while one is computed.
        batch_size: Optional int. As for `encode`.
        max_length: Optional int. As for `encode`.
        normalize: bool. As for `encode`.
        advance: Called with the number of sentences done since it was last called.
        jit_compile: bool. As for `encode`. Defaults to `False`.
        first: int. The number of the first string, for messages. Defaults to `1`.

    Yields:
        float32 array of shape `(n, embedding_dim)` for every block of `n` strings.

    Raises:
        NotFinite: If an embedding is not finite, which is a `UserError`; the message
            names the string's number.

    Example:

    ```python
    for rows in encode_blocks(model, blocks_of(read_raw_lines("sentences.txt"))):
        file.write(rows.tobytes())
    ```
    """
    if batch_size is not None:
        check_limit(batch_size)
    max_length = max_length or model.max_length
    from simcse_tf.model.compilation import on_accelerator
    from simcse_tf.model.inference import devices_of
    from simcse_tf.model.text_inputs import encoded_texts

    gpu = on_accelerator()
    limits = GPU_LIMITS if gpu else CPU_LIMITS
    limits = limits._replace(sentences=batch_size or limits.sentences)
    devices: list[str | None] = [*devices_of(model)] or [None]
    slots = devices * (GPU_BATCHES if gpu else CORES)
    embed = _embedding(model, normalize, jit_compile, slots)

    def plan(lengths: np.ndarray) -> Iterable[Batch]:
        if jit_compile:
            return whole_batches(lengths, limits)
        if gpu:
            return batches(lengths, limits)
        return shared_batches(lengths, limits, CORES)

    # One core tokenizes while the others compute, or all of them for a GPU.
    pool = _threads("embed", len(slots))
    tokenizers = _threads("tokenize", CORES if gpu else 1)

    def tokenize(block: Texts) -> tuple[Tokens, np.ndarray]:
        return distinct_tokens(model, encoded_texts(block), max_length, tokenizers)

    for tokens, places in _one_ahead(pool, tokenize, blocks):
        repeats = np.bincount(places)
        embeddings = np.empty((len(repeats), model.embedding_dim), np.float32)
        planned = list(plan(tokens.lengths))
        done = mapped(pool, functools.partial(embed, tokens), planned)
        for batch, embedded in zip(planned, done, strict=True):
            embeddings[batch.rows] = embedded
            advance(int(repeats[batch.rows].sum()))
        rows = embeddings[places]
        check_finite(rows, "embeddings", first)
        first += len(rows)
        yield rows


def pays_to_compile(model: KerasMethods, sentences: int) -> bool:
    """Whether to let XLA compile the batches of so many sentences.

    Args:
        model: A `simcse_tf.SimCSE`.
        sentences: int.

    Example:

    ```python
    pays_to_compile(model, 1_000_000)  # True on a GPU
    ```
    """
    from simcse_tf.model.compilation import on_accelerator

    return model.static_shapes and on_accelerator() and sentences >= COMPILE_FROM


@functools.cache
def _threads(work: str, count: int) -> ThreadPoolExecutor:
    """Threads that stay, as does what TensorFlow and oneDNN keep for each of them.

    Making that anew took a third of the time of eight texts.
    """
    return ThreadPoolExecutor(count, thread_name_prefix=f"simcse-{work}")


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_threads.cache_clear)


def _embedding(
    model: KerasMethods, normalize: bool, jit_compile: bool, slots: Sequence[str | None]
) -> Callable[[Tokens, Batch], np.ndarray]:
    """Embeds the rows of a batch, on a device that is free.

    `slots` has each device as often as batches may be there at a time.
    """
    # XLA compiles shapes that come again and again.
    compute = {
        (device, is_whole): model.inference(normalize, is_whole, device)
        for device in dict.fromkeys(slots)
        for is_whole in {False, jit_compile}
    }
    free: SimpleQueue[str | None] = SimpleQueue()
    for slot in slots:
        free.put(slot)

    def embed(tokens: Tokens, batch: Batch) -> np.ndarray:
        device = free.get()
        try:
            embeddings = compute[device, batch.is_whole](*tokens.padded(batch)).numpy()
        finally:
            free.put(device)
        return embeddings[: len(batch.rows)]

    return embed


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


def progress_bar(
    total: int | None,
    progress: bool,
    done: int = 0,
    what: str = "encoding",
    unit: str = "sentence",
) -> Any:
    """A bar on stderr that counts sentences.

    Args:
        total: Optional int. How many there are in all; `None` if nobody knows.
        progress: bool. Whether the bar is shown.
        done: int. How many are done already. Defaults to `0`.
        what: string. What is done. Defaults to `"encoding"`.
        unit: string. What is counted. Defaults to `"sentence"`.

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
        total=total,
        initial=done,
        unit=unit,
        desc=what,
        disable=not progress,
    )


def _one_ahead(
    pool: Executor, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """`map` that computes the next result while the caller uses the last one."""
    items = iter(items)
    # There is nothing yet to do beside the first one: no other thread is asked.
    done = [function(item) for item in islice(items, 1)]
    for item in items:
        ahead = pool.submit(function, item)
        yield done.pop()
        done.append(ahead.result())
    yield from done
