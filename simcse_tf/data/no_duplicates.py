"""Batches in which no text stands twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Source
from simcse_tf.data.permutation import permutation

# Examples that are read at a time.
_CHUNK = 8192


class NoDuplicates:
    """Which examples each step sees, where no text may stand twice in a batch.

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
            takes the rest from the first.
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
        return np.concatenate([batches, self._first[len(batches) :]])

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
    _, numbers, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    numbers = numbers.reshape(-1).astype(np.int32) + 1
    numbers[(counts[numbers - 1] == 1) | (hashes == 0)] = 0
    return numbers.reshape(-1, source.columns)


def _hashes(source: Source, epoch: int) -> Iterator[np.ndarray]:
    for start in range(0, len(source), _CHUNK):
        rows = source.read(range(start, min(start + _CHUNK, len(source))), epoch)
        texts = [text for row in rows for text in row[: source.columns]]
        # Not Python's own hash, which is another one in each process.
        digests = [hashlib.blake2b(text, digest_size=8).digest() for text in texts]
        hashes = np.frombuffer(b"".join(digests), np.uint64).copy()
        hashes[[not text for text in texts]] = 0
        yield hashes


def distinct_batches(texts: np.ndarray, batch_size: int) -> np.ndarray:
    """Batches of rows that have no text in common.

    Where nothing repeats they hold the rows in their order.

    Args:
        texts: int, `(rows, columns)`. Equal numbers are equal texts, and 0 is none.
        batch_size: int. Rows a batch.

    Returns:
        int64, `(batches, batch_size)`: numbers of rows, each at most once.

    Example:

    ```python
    distinct_batches(np.array([[1], [1], [2], [3]]), 2)  # [[0, 2], [1, 3]]
    ```
    """
    batches = _at_most(texts, batch_size)
    while batches:
        rows, lacking = _filled(texts, batches, batch_size)
        if not lacking:
            return rows
        batches -= -(-lacking // batch_size)
    return np.empty((0, batch_size), np.int64)


def _at_most(texts: np.ndarray, batch_size: int) -> int:
    """How many batches there can be, when a text is in as many as it has rows."""
    counts = [np.bincount(column) for column in texts.T]
    batches, fewer = len(texts), len(texts) // batch_size
    while fewer < batches:
        batches = fewer
        rows = min(int(n[0] + np.minimum(n[1:], batches).sum()) for n in counts)
        fewer = rows // batch_size
    return batches


def _filled(texts: np.ndarray, batches: int, batch_size: int) -> tuple[np.ndarray, int]:
    """So many batches, and how many rows they lack."""
    rows = np.arange(batches * batch_size).reshape(batches, batch_size)
    moves = _repeats(texts[: rows.size].reshape(batches, batch_size, -1))
    movable = np.concatenate([rows[moves], np.arange(rows.size, len(texts))])
    stands = _batches_of(
        np.where(moves[..., None], 0, texts[rows]), np.unique(texts[movable])
    )
    placed, places = _placed(texts[movable], moves.sum(axis=1).tolist(), stands)
    lacking = int(moves.sum()) - len(placed)
    if not lacking:
        rows[moves] = movable[placed][np.argsort(places, kind="stable")]
    return rows, lacking


def _repeats(texts: np.ndarray) -> np.ndarray:
    """Which rows of `(batches, rows, columns)` hold a text of a row before them."""
    batches, rows, columns = texts.shape
    flat = texts.reshape(batches, -1)
    order = np.argsort(flat, axis=1, kind="stable")
    ordered, owners = np.take_along_axis(flat, order, axis=1), order // columns
    again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0)
    # A row may hold a text twice.
    batch, place = np.nonzero(again & (owners[:, 1:] != owners[:, :-1]))
    repeats = np.zeros((batches, rows), bool)
    repeats[batch, owners[batch, place + 1]] = True
    return repeats


def _batches_of(texts: np.ndarray, wanted: np.ndarray) -> dict[int, set[int]]:
    """In which of the batches each of the wanted texts stands."""
    found: dict[int, set[int]] = defaultdict(set)
    where = np.isin(texts, wanted) & (texts != 0)
    for text, batch in zip(
        texts[where].tolist(), np.nonzero(where)[0].tolist(), strict=True
    ):
        found[text].add(batch)
    return found


def _placed(
    texts: np.ndarray, room: list[int], stands: dict[int, set[int]]
) -> tuple[list[int], list[int]]:
    """Puts rows into the first batch with room that holds none of their texts.

    Args:
        texts: The texts of each row, in the order in which they are placed.
        room: How many rows each batch lacks. Is used up.
        stands: The batches that hold a text. Is kept up to date.

    Returns:
        The rows that were placed, and the batch of each.
    """
    placed, places = [], []
    first, free = 0, sum(room)
    # All batches before it are full or hold the text, and stay so.
    passed: dict[int, int] = {}

    def closed(batch: int, texts: Sequence[int]) -> bool:
        return not room[batch] or any(batch in stands[text] for text in texts)

    for row, own in enumerate(texts.tolist()):
        if not free:
            break
        while not room[first]:
            first += 1
        own = [text for text in own if text]
        for text in own:
            batch = max(first, passed.get(text, 0))
            while batch < len(room) and closed(batch, [text]):
                batch += 1
            passed[text] = batch
        batch = max([first, *map(passed.__getitem__, own)])
        while batch < len(room) and closed(batch, own):
            batch += 1
        if batch == len(room):
            continue
        for text in own:
            stands[text].add(batch)
        room[batch] -= 1
        free -= 1
        placed.append(row)
        places.append(batch)
    return placed, places
