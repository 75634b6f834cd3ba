"""Sentences of similar length as batches, and how large a batch may be."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from simcse_tf.core.errors import UserError

# What XLA compiles is padded to these; each is compiled once for a whole batch.
_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Where each core has more batches than this, the last ones keep none waiting for long.
_FEW_BATCHES = 4
# A batch of fewer tokens takes as long as one of so many: it reads all weights too.
_SMALLEST_BATCH = 32


class Limits(NamedTuple):
    """How large a batch may be.

    Attributes:
        sentences: int. The most of a batch.
        tokens: int. The most of a batch, padding included. In a larger one a token
            costs no less, and memory grows.

    Example:

    ```python
    Limits(64, 4096)
    ```
    """

    sentences: int
    tokens: int

    def rows(self, length: int) -> int:
        """The sentences of a batch that is padded to a length."""
        return min(self.sentences, max(1, self.tokens // max(1, length)))


CPU_LIMITS = Limits(64, 4096)
# BERT-base needs less than 2 GB for such a batch in bfloat16.
GPU_LIMITS = Limits(2048, 32768)


def check_limit(batch_size: int) -> None:
    """Refuses batches of no sentence.

    Args:
        batch_size: int.

    Raises:
        UserError: If it is not positive.

    Example:

    ```python
    check_limit(64)
    ```
    """
    if batch_size < 1:
        raise UserError(f"batch_size: expected 1 or more, received {batch_size}")


class Batch(NamedTuple):
    """Sentences that are computed together.

    Attributes:
        rows: int array. Which ones.
        shape: Sentences and tokens that the batch is padded to.
        is_whole: bool. Whether the shape is one of a few, which XLA may compile.

    Example:

    ```python
    Batch(np.arange(3), shape=(4, 16), is_whole=True)
    ```
    """

    rows: np.ndarray
    shape: tuple[int, int]
    is_whole: bool = False


def batches(lengths: np.ndarray, limits: Limits) -> Iterator[Batch]:
    """Batches of sentences of similar length, each once; the longest first.

    Args:
        lengths: int array of shape `(n,)`. Tokens of each sentence.
        limits: See `Limits`.

    Example:

    ```python
    [batch.rows for batch in batches(np.array([5, 9, 6]), Limits(2, 100))]
    # [[1, 2], [0]]
    ```
    """
    # What does not fit in memory fails at once.
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        rows = order[start : start + limits.rows(longest)]
        yield Batch(rows, (len(rows), longest))
        start += len(rows)


def shared_batches(lengths: np.ndarray, limits: Limits, cores: int) -> list[Batch]:
    """`batches`, of which each core gets as many tokens where there are few.

    Args:
        lengths: As for `batches`.
        limits: As for `batches`.
        cores: int. How many batches run side by side.

    Example:

    ```python
    batches = shared_batches(np.full(64, 15), Limits(64, 4096), cores=2)
    [batch.shape for batch in batches]  # [(32, 15), (32, 15)]
    ```
    """
    planned = list(batches(lengths, limits))
    rounds = math.ceil(len(planned) / cores)
    most = min(rounds * cores, int(lengths.sum()) // _SMALLEST_BATCH)
    if rounds > _FEW_BATCHES or most < len(planned):
        return planned
    # The smallest batches of which there are no more.
    tokens = range(int(lengths.max(initial=1)), limits.tokens)
    smallest = bisect_left(
        tokens,
        True,
        key=lambda each: _count(lengths, limits._replace(tokens=each)) <= most,
    )
    if smallest < len(tokens):
        limits = limits._replace(tokens=tokens[smallest])
    return list(batches(lengths, limits))


def _count(lengths: np.ndarray, limits: Limits) -> int:
    return sum(1 for _ in batches(lengths, limits))


def whole_batches(lengths: np.ndarray, limits: Limits) -> Iterator[Batch]:
    """`batches` of few shapes: XLA would compile each of many.

    A batch that would be more padding than sentences keeps a shape of its own.

    Args:
        lengths: As for `batches`.
        limits: As for `batches`.

    Example:

    ```python
    [batch.shape for batch in whole_batches(np.full(900, 15), Limits(512, 8192))]
    # [(512, 16), (512, 16)]
    ```
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        length = next((each for each in _LENGTHS if each >= longest), longest)
        count = limits.rows(length)
        rows = order[start : start + count]
        is_whole = 2 * len(rows) >= count
        shape = (count, length) if is_whole else (len(rows), longest)
        yield Batch(rows, shape, is_whole)
        start += len(rows)
