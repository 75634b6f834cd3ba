"""Which examples each step sees, where no text may stand twice in a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Source
from simcse_tf.data.distinct_batches import distinct_batches
from simcse_tf.data.permutation import permutation
from simcse_tf.objectives.text_embeddings import fingerprints

# Examples that are read at a time.
_CHUNK = 8192


class NoDuplicates:
    """The batches of each epoch, no text standing in one of them twice.

    Each epoch is planned at once, from the seed and its number alone. An example whose
    texts stand in its batch already moves to the first batch that has none of them.
    What fits nowhere is left out of the epoch, as a short last batch is.

    Args:
        source: The examples. All their texts count; an example may hold one twice.
        batch_size: int. Examples a step.
        shuffle: bool. Whether each epoch has a random order of its own. Defaults to
            `True`.
        seed: int. The seed of the shuffling. Defaults to `42`.

    Attributes:
        steps: int. Batches an epoch: as many as the first one has. An epoch with fewer
            begins again.
        note: string. What a run says of it at its start.

    Raises:
        UserError: If not one batch can be made.

    Example:

    ```python
    plan = NoDuplicates(open_source("pairs.csv"), batch_size=64)
    plan.indices(epoch=3, positions=np.arange(64))  # the examples of its first batch
    ```
    """

    def __init__(
        self, source: Source, batch_size: int, shuffle: bool = True, seed: int = 42
    ):
        self._source = source
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._texts = text_numbers(source)
        self._first = self._planned(0, self._texts)
        self._newest = 0, self._first
        self.steps = len(self._first)
        if not self.steps:
            raise UserError(
                f"data.no_duplicates: data.train holds {len(source)} examples, and no "
                f"{batch_size} of them (training.batch_size) without a text in common"
            )
        self.note = (
            f"no duplicates: {self._texts.any(axis=1).sum()} examples hold a text more "
            f"than once in the data; {len(source) - self._first.size} are in no batch "
            "of the first epoch"
        )

    def indices(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """The examples at some places of an epoch.

        Args:
            epoch: int.
            positions: int64, each below `steps * batch_size`.

        Raises:
            UserError: If the data can no longer be read.
        """
        newest, batches = self._newest
        if epoch != newest:
            batches = self._batches(epoch)
            self._newest = epoch, batches
        return batches.reshape(-1)[positions]

    def _batches(self, epoch: int) -> np.ndarray:
        varies, still = self._source.varies, not self._shuffle
        if epoch == 0 or (still and not varies):
            return self._first
        texts = text_numbers(self._source, epoch) if varies else self._texts
        batches = self._planned(epoch, texts)
        # NumPy repeats them where there are fewer.
        return np.resize(batches if len(batches) else self._first, self._first.shape)

    def _planned(self, epoch: int, texts: np.ndarray) -> np.ndarray:
        if not self._shuffle:
            return distinct_batches(texts, self._batch_size)
        order = permutation(len(texts), self._seed, epoch)
        return order[distinct_batches(texts[order], self._batch_size)]


def text_numbers(source: Source, epoch: int = 0) -> np.ndarray:
    """Equal numbers for equal texts, found by hashes of 64 bits.

    Args:
        source: The examples.
        epoch: int. Defaults to `0`.

    Returns:
        int32, `(examples, columns)`. 0 for a text that stands nowhere else, and where
        a hard negative is absent.

    Example:

    ```python
    text_numbers(source)  # [[1, 0], [0, 0], [1, 2], [2, 0]]
    ```
    """
    hashes = np.concatenate(list(_hashes(source, epoch)))
    _, places, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    numbers = places.reshape(-1).astype(np.int32) + 1
    numbers[(counts[numbers - 1] == 1) | (hashes == 0)] = 0
    return numbers.reshape(-1, source.columns)


def _hashes(source: Source, epoch: int) -> Iterator[np.ndarray]:
    for start in range(0, len(source), _CHUNK):
        rows = source.read(range(start, min(start + _CHUNK, len(source))), epoch)
        texts = [text for row in rows for text in row[: source.columns]]
        # Not Python's own hash, which is another one in each process.
        hashes = fingerprints(texts).copy()
        hashes[[not text for text in texts]] = 0
        yield hashes
