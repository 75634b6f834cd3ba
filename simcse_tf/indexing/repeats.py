"""Rows of an index that have the same text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simcse_tf.indexing.index import Index
from simcse_tf.objectives.text_embeddings import fingerprints


class Repeats:
    """Which rows of an index have the text of another one.

    All texts are read once. In an index without texts no two rows are the same.

    Args:
        index: The index.

    Example:

    ```python
    Repeats(index).first_of_each(index.live)
    ```
    """

    def __init__(self, index: Index):
        marks = np.empty(0, np.uint64)
        if index.manifest.has_texts:
            parts = [fingerprints(texts) for texts in _texts(index)]
            marks = np.concatenate([marks, *parts])
        # Rows of one text stand together, in their order.
        order = np.argsort(marks, kind="stable")
        same = marks[order[1:]] == marks[order[:-1]]
        many = np.append(same, False) | np.append(False, same)
        self._rows = order[many[: len(order)]]
        self._marks = marks[self._rows]

    def first_of_each(self, allowed: np.ndarray) -> np.ndarray:
        """The first row of each text among those that are allowed.

        Args:
            allowed: bool array `(rows,)`.

        Returns:
            bool array `(rows,)`.
        """
        kept = allowed[self._rows]
        rows, marks = self._rows[kept], self._marks[kept]
        first = allowed.copy()
        first[rows[1:][marks[1:] == marks[:-1]]] = False
        return first


def _texts(index: Index) -> Iterator[list[bytes]]:
    for _, batch in index.ids_and_texts():
        yield batch.column("text").cast("binary").to_pylist()
