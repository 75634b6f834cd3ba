"""What stands beside an index' rows: candidates, and which rows count no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from simcse_tf.core.atomic import atomic_write
from simcse_tf.indexing import candidates as kinds
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.manifest import Candidates, Manifest, Removed, StoredFile
from simcse_tf.indexing.record_file import ID
from simcse_tf.indexing.writing import CANDIDATES, REMOVED, sync_file

# As `simcse_tf.indexing.candidates.build`.
Build: TypeAlias = Callable[[Path, kinds.Blocks, int, str, dict[str, Any]], None]

# The share of rows behind the candidates' that are compared one by one.
_UNCOVERED = 0.1


def check_candidates(candidates: Candidates, rows: int) -> None:
    """Checks that candidates can be built; asked before work that takes long.

    Args:
        candidates: Those that there are, or that were asked for.
        rows: int. How many they will cover.

    Raises:
        UserError: If they cannot.

    Example:

    ```python
    check_candidates(Candidates(kind="ivfpq", asked_for=True), 100)
    # UserError: --kind: ivfpq learns from 9984 rows or more, received 100: use flat
    ```
    """
    kinds.check_kind(_kind(candidates, rows), rows)


def with_candidates(
    place: Path, manifest: Manifest, build: Build | None = None
) -> Manifest:
    """A manifest with candidates for its rows, built anew where they cover too few.

    Args:
        place: The index.
        manifest: What it is to be.
        build: Optional function. Defaults to `None`, which is
            `simcse_tf.indexing.candidates.build`.

    Raises:
        OSError: If they cannot be written.
        UserError: If they cannot be built.

    Example:

    ```python
    with_candidates(directory, manifest).candidates.kind  # "hnsw"
    ```
    """
    current, rows = manifest.candidates, manifest.rows
    kind = _kind(current, rows)
    new = Candidates(kind=kind, asked_for=current.asked_for)
    if kind != "flat":
        if kind == current.kind and rows - current.rows <= _UNCOVERED * rows:
            return manifest
        parameters = kinds.parameters_for(kind, rows, manifest.dimension)
        path = f"{CANDIDATES}/{manifest.generation:06d}.faiss"
        (place / path).parent.mkdir(exist_ok=True)
        blocks = Index(place, manifest.model_copy(update={"candidates": new})).blocks
        (build or kinds.build)(place / path, blocks, rows, kind, parameters)
        sync_file(place, path)
        file = StoredFile.of(place, path)
        written = {"parameters": parameters, "rows": rows, "file": file}
        new = new.model_copy(update=written)
    return manifest.model_copy(update={"candidates": new})


def with_removed(place: Path, index: Index, rows: np.ndarray) -> Removed | None:
    """The removed rows of an index and some more, written to a file.

    Args:
        place: The index.
        index: The same, opened.
        rows: int64 `(m,)`. Rows that count.

    Returns:
        What the next manifest says of them; `None` if there are none.

    Raises:
        OSError: If they cannot be written.

    Example:

    ```python
    manifest.changed(removed=with_removed(directory, index, np.array([7])))
    ```
    """
    if not len(rows):
        return index.manifest.removed
    removed = np.union1d(np.flatnonzero(~index.live), rows).astype(np.int64)
    path = f"{REMOVED}/{index.manifest.generation + 1:06d}.npy"
    with atomic_write(place / path) as temporary, temporary.open("wb") as file:
        np.save(file, removed)
    sync_file(place, path)
    return Removed(rows=len(removed), file=StoredFile.of(place, path))


def rows_of(index: Index, ids: Iterable[str]) -> np.ndarray:
    """The rows that have one of some ids, and count.

    Args:
        index: The index.
        ids: The ids, held in memory.

    Returns:
        int64 `(m,)`, in order.

    Example:

    ```python
    rows_of(index, ["7"])  # [7]
    ```
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(ids, pa.string())
    found = [np.empty(0, np.int64)]
    for first, batch in index.ids_and_texts():
        there = pc.is_in(batch.column(ID), value_set=wanted)
        rows = first + np.flatnonzero(there.to_numpy(zero_copy_only=False))
        found.append(rows[index.live[rows]])
    return np.concatenate(found)


def _kind(candidates: Candidates, rows: int) -> str:
    return candidates.kind if candidates.asked_for else kinds.kind_for(rows)
