"""Lists of `"ivfpq"` that several processes fill, each with a part of the rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from simcse_tf.indexing.candidates import Blocks, learned
from simcse_tf.indexing.faiss_files import read_faiss, write_faiss

_Path = str | os.PathLike[str]


def learn_lists(
    path: _Path, blocks: Blocks, rows: int, dimension: int, parameters: dict[str, Any]
) -> None:
    """Writes what lists learn from a sample, without a row yet.

    Args:
        path: The file to write.
        blocks: As for `simcse_tf.indexing.candidates.build`.
        rows: int. As there.
        dimension: int. Of the vectors.
        parameters: As there.

    Raises:
        OSError: The file cannot be written.

    Example:

    ```python
    learn_lists("learned.faiss", index.blocks, index.rows, 384, parameters)
    ```
    """
    write_faiss(learned("ivfpq", dimension, blocks, rows, parameters), path)


def fill_lists(
    path: _Path, empty: _Path, vectors: Iterable[np.ndarray], first: int
) -> None:
    """Writes the lists of some rows.

    Args:
        path: The file to write.
        empty: As `learn_lists` wrote it.
        vectors: Blocks, float32 `(m, dim)`, of unit length.
        first: int. The number of the first row.

    Raises:
        OSError: A file cannot be read or written.

    Example:

    ```python
    fill_lists("part_1.faiss", "learned.faiss", blocks_of_part, first=100_000)
    ```
    """
    index = read_faiss(empty)
    for block in vectors:
        numbers = np.arange(first, first + len(block))
        index.add_with_ids(np.ascontiguousarray(block, np.float32), numbers)
        first += len(block)
    write_faiss(index, path)


def join_lists(path: _Path, parts: Sequence[_Path]) -> None:
    """Writes the lists of all rows: the same that one process fills.

    Args:
        path: The file to write.
        parts: As `fill_lists` wrote them, in the order of their rows.

    Raises:
        OSError: A file cannot be read or written.

    Example:

    ```python
    join_lists("candidates.faiss", ["part_0.faiss", "part_1.faiss"])
    ```
    """
    index = read_faiss(parts[0])
    for part in parts[1:]:
        index.merge_from(read_faiss(part), 0)
    write_faiss(index, path)
