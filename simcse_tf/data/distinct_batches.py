"""Rows in their order, cut into batches in which no text stands twice."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


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
