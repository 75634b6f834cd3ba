"""The distinct texts of the training data, in an order of their own."""

import hashlib
from collections.abc import Iterator

import numpy as np

from simcse_tf.data.base import Row, Source, origins_of
from simcse_tf.objectives.text_embeddings import NEVER_ABSENT, fingerprints

# Rows that are read at a time.
_BLOCK = 16384


class DistinctTexts:
    """All texts that a run can see, each once, by their fingerprints.

    The source is read through once. Of one that draws what an epoch holds, all is read
    that it draws from.

    Args:
        source: A `simcse_tf.data.base.Source`.

    Attributes:
        fingerprints: uint64 array of shape `(n,)`, ascending.

    Raises:
        UserError: If the source cannot be read.

    Example:

    ```python
    texts = DistinctTexts(open_source("pairs.csv"))
    len(texts), next(texts.blocks())  # (1900, [b"A man plays.", ...])
    ```
    """

    def __init__(self, source: Source):
        self._origins = origins_of(source)
        marks = []
        # Of each text that is there: in which source it is, and in which cell of it.
        places: list[np.ndarray] = []
        for number, origin in enumerate(self._origins):
            for first, rows in _blocks(origin):
                cells = [text for row in rows for text in row]
                [there] = np.nonzero(_are_there(cells, origin.columns))
                marks.append(fingerprints(cells[place] for place in there.tolist()))
                cell = there + first * origin.columns
                places.append(np.stack([np.full_like(cell, number), cell]))
        self.fingerprints, kept = np.unique(np.concatenate(marks), return_index=True)
        self._numbers, self._cells = np.concatenate(places, axis=1)[:, kept]

    def __len__(self) -> int:
        return len(self.fingerprints)

    @property
    def digest(self) -> str:
        """What tells these texts from others."""
        return hashlib.sha256(self.fingerprints.tobytes()).hexdigest()

    def blocks(self, start: int = 0) -> Iterator[list[bytes]]:
        """The texts in the order of their fingerprints, some thousands at a time.

        Args:
            start: int. How many are left out at the top.

        Raises:
            UserError: If they can no longer be read, or are no longer the same.
        """
        for first in range(start, len(self), _BLOCK):
            numbers = self._numbers[first : first + _BLOCK]
            cells = self._cells[first : first + _BLOCK]
            texts = [b""] * len(cells)
            for number in np.unique(numbers).tolist():
                origin = self._origins[number]
                [wanted] = np.nonzero(numbers == number)
                rows, columns = np.divmod(cells[wanted], origin.columns)
                read = origin.read(rows.tolist(), epoch=0)
                for place, row, column in zip(
                    wanted.tolist(), read, columns.tolist(), strict=True
                ):
                    texts[place] = row[column]
            yield texts


def _blocks(source: Source) -> Iterator[tuple[int, list[Row]]]:
    """A source's rows, without their scores, and which is the first of each block."""
    for first in range(0, len(source), _BLOCK):
        numbers = range(first, min(first + _BLOCK, len(source)))
        rows = source.read(numbers, epoch=0)
        yield first, [row[: source.columns] for row in rows]


def _are_there(cells: list[bytes], columns: int) -> np.ndarray:
    """Which texts of some rows are not hard negatives that are lacking."""
    empty = np.fromiter((not text for text in cells), bool, len(cells))
    empty.reshape(-1, columns)[:, :NEVER_ABSENT] = False
    return ~empty
