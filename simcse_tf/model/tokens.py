"""A block's distinct sentences as token ids, in NumPy.

Several threads use them. Eager TensorFlow operations of several threads race on a GPU
(https://github.com/tensorflow/tensorflow/issues/123980), so there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from simcse_tf.model.batches import Batch

if TYPE_CHECKING:
    from simcse_tf.model.text_model import TextModel

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Sentences that a thread tokenizes at a time: fewer cost more than they take.
_PIECE = 512


class Tokens:
    """Token ids of sentences, one after the other.

    Args:
        ids: int32 array of shape `(tokens,)`.
        lengths: int64 array of shape `(n,)`.
        padding: int. The id that fills rows up.

    Example:

    ```python
    tokens = Tokens(np.array([101, 7, 102, 101, 102]), np.array([3, 2]), padding=0)
    tokens.padded(Batch(np.array([1]), shape=(1, 4)))  # [[101, 102, 0, 0]], [2]
    ```
    """

    def __init__(self, ids: np.ndarray, lengths: np.ndarray, padding: int):
        self.lengths = lengths
        self._ids = ids
        self._starts = np.cumsum(lengths) - lengths
        self._padding = padding

    def padded(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a batch.

        Args:
            batch: See `Batch`.

        Returns:
            int32 arrays: ids of the batch's shape, and their lengths. A row beyond
            the batch's own is a single token of padding.
        """
        rows, length = batch.shape
        own = len(batch.rows)
        lengths = np.ones(rows, np.int32)
        lengths[:own] = self.lengths[batch.rows]
        ids = np.full((rows, length), self._padding, np.int32)
        position = np.arange(length)
        is_token = position < lengths[:own, None]
        places = self._starts[batch.rows, None] + position
        ids[:own][is_token] = self._ids[places[is_token]]
        return ids, lengths


def distinct_tokens(
    model: TextModel, texts: Sequence[bytes], max_length: int, pool: Executor
) -> tuple[Tokens, np.ndarray]:
    """Tokenizes every distinct text once.

    Args:
        model: A `simcse_tf.SimCSE`.
        texts: Sequence of `n` UTF-8 strings.
        max_length: int. Tokens a text is cut at.
        pool: Threads that tokenize.

    Returns:
        The tokens of the distinct texts, and an int array of shape `(n,)`: which of
        them each text is.

    Example:

    ```python
    tokens, places = distinct_tokens(model, [b"a", b"b", b"a"], 32, pool)
    places  # [0, 1, 0]
    ```
    """
    numbers: dict[bytes, int] = {}
    places = np.fromiter(
        (numbers.setdefault(text, len(numbers)) for text in texts), int, len(texts)
    )
    distinct = list(numbers)
    starts = range(0, len(distinct), _PIECE)
    pieces = [distinct[start : start + _PIECE] for start in starts]
    done = list(mapped(pool, lambda piece: model.token_ids(piece, max_length), pieces))
    ids, lengths = (
        (np.concatenate(each) for each in zip(*done, strict=True))
        if done
        else (np.zeros(0, np.int32), np.zeros(0, np.int64))
    )
    return Tokens(ids, lengths, model.tokenizer.pad_token_id), places


def mapped(
    pool: Executor, function: Callable[[_Item], _Result], items: Sequence[_Item]
) -> Iterable[_Result]:
    """`pool.map`, without waiting for another thread where there is a single item.

    Args:
        pool: Threads.
        function: What is computed of each item.
        items: Sequence.

    Example:

    ```python
    list(mapped(pool, len, ["a", "bc"]))  # [1, 2]
    ```
    """
    return pool.map(function, items) if len(items) > 1 else map(function, items)
