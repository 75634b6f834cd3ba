"""The distinct texts of the training data, in an order of their own."""

import hashlib
from collections.abc import Iterator

import numpy as np

from simcse_tf.data.base import Row, Source
from simcse_tf.objectives.text_embeddings import fingerprints

# Rows that are read at a time.
_BLOCK = 16384
# Behind these columns an empty string is a hard negative that a row lacks.
_NEVER_ABSENT = 2


class DistinctTexts:
    """All texts that a run can see, each once, by their fingerprints.

    The source is read through once. Of one that draws positives, the sentences are
    read that it draws from.

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
        self._source = getattr(source, "sentences", source)
        columns = self._source.columns
        found = [_fingerprints(self._texts(rows)) for rows in self._rows()]
        marks = np.concatenate([marks for marks, _ in found])
        absent = np.concatenate([absent for _, absent in found])
        [places] = np.nonzero(~absent)
        self.fingerprints, first = np.unique(marks[places], return_index=True)
        self._rows_of, self._columns_of = np.divmod(places[first], columns)

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
            some = slice(first, first + _BLOCK)
            rows = self._source.read(self._rows_of[some].tolist(), epoch=0)
            columns = self._columns_of[some].tolist()
            yield [row[column] for row, column in zip(rows, columns, strict=True)]

    def _rows(self) -> Iterator[list[Row]]:
        for first in range(0, len(self._source), _BLOCK):
            end = min(first + _BLOCK, len(self._source))
            yield self._source.read(range(first, end), epoch=0)

    def _texts(self, rows: list[Row]) -> list[Row]:
        # Behind them may stand a score.
        return [row[: self._source.columns] for row in rows]


def _fingerprints(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Of each text, row by row, and whether it is a hard negative that is lacking."""
    flat = [text for row in rows for text in row]
    absent = [
        not text and column >= _NEVER_ABSENT
        for row in rows
        for column, text in enumerate(row)
    ]
    return fingerprints(flat), np.array(absent, bool)
