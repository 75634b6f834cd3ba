"""Lists of `"ivfpq"` that several processes fill, each with a part of the rows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simcse_tf.indexing.candidates import Blocks, learned, write

if TYPE_CHECKING:
    import faiss

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
    write(learned("ivfpq", dimension, blocks, rows, parameters), path)


def fill_lists(
    path: _Path, learned: _Path, vectors: Iterable[np.ndarray], first: int
) -> None:
    """Writes the lists of some rows.

    Args:
        path: The file to write.
        learned: As `learn_lists` wrote it.
        vectors: Blocks, float32 `(m, dim)`, of unit length.
        first: int. The number of the first row.

    Raises:
        OSError: A file cannot be read or written.

    Example:

    ```python
    fill_lists("part_1.faiss", "learned.faiss", blocks_of_part, first=100_000)
    ```
    """
    index = _read(learned)
    for block in vectors:
        numbers = np.arange(first, first + len(block))
        index.add_with_ids(np.ascontiguousarray(block, np.float32), numbers)
        first += len(block)
    write(index, path)


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
    index = _read(parts[0])
    for part in parts[1:]:
        index.merge_from(_read(part), 0)
    write(index, path)


def _read(path: _Path) -> faiss.Index:
    import faiss

    try:
        return faiss.read_index(os.fspath(path))
    except RuntimeError as error:
        raise OSError(errno.EIO, f"faiss: {error}", os.fspath(path)) from None
