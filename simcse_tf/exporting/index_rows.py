"""What an export takes from an index: its rows, and what tells it from others."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from simcse_tf.core.contents import sha256
from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import shown_path
from simcse_tf.exporting.manifest import ExportedIndex
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.manifest import MANIFEST_FILE, read_manifest
from simcse_tf.indexing.repeats import Repeats


@dataclass(frozen=True)
class IndexRows:
    """The rows that a search can find: of each text the first that was not removed.

    Attributes:
        vectors: `(rows, dim)` as they are stored: float32, bfloat16 or int8.
        ids: Object array of bytes, `(rows,)`.
        texts: The same.
        metadata: The same, JSON objects; `None` where the index has no columns.
        about: What the manifest says of the index.

    Example:

    ```python
    rows_of(Index.open("wiki.index")).about.rows  # 1000000
    ```
    """

    vectors: np.ndarray
    ids: np.ndarray
    texts: np.ndarray
    metadata: np.ndarray | None
    about: ExportedIndex

    @property
    def nbytes(self) -> int:
        """How many bytes all of it has."""
        strings = [self.ids, self.texts]
        strings += [] if self.metadata is None else [self.metadata]
        return int(self.vectors.nbytes) + sum(
            len(it) for each in strings for it in each
        )


def rows_of(index: Index) -> IndexRows:
    """Reads the rows of an index.

    Args:
        index: An `Index`.

    Raises:
        UserError: If all were removed, or the index has changed since it was opened.

    Example:

    ```python
    rows_of(Index.open("wiki.index")).texts[0]  # b"A man plays a guitar."
    ```
    """
    digest = sha256(index.directory / MANIFEST_FILE)
    shown = shown_path(index.directory)
    if read_manifest(index.directory) != index.manifest:
        raise UserError(f"{shown} has changed meanwhile: try again")
    rows = np.flatnonzero(Repeats(index).first_of_each(index.live))
    if not len(rows):
        raise UserError(f"{shown} has no rows: expected one or more")
    metadata = None
    if index.manifest.columns:
        found = index.metadata(rows)
        metadata = _as_bytes([json.dumps(it, ensure_ascii=False) for it in found])
    return IndexRows(
        vectors=_stored_vectors(index, rows),
        ids=_as_bytes(index.ids(rows)),
        texts=_as_bytes(index.texts(rows)),
        metadata=metadata,
        about=ExportedIndex(
            source=str(index.directory),
            digest=digest,
            rows=len(rows),
            dimensions=index.dimension,
            vectors=index.manifest.dtype,
            has_metadata=metadata is not None,
        ),
    )


def _stored_vectors(index: Index, rows: np.ndarray) -> np.ndarray:
    stored = index.segments[0].vectors.dtype
    vectors = np.empty((len(rows), index.dimension), stored)
    for segment in index.segments:
        first, last = segment.first, segment.first + len(segment.vectors)
        begin, end = np.searchsorted(rows, [first, last])
        vectors[begin:end] = segment.vectors[rows[begin:end] - first]
    if index.manifest.dtype == "bfloat16":
        import ml_dtypes

        return vectors.view(ml_dtypes.bfloat16)
    return vectors


def _as_bytes(texts: list[str]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = [text.encode("utf-8", "surrogatepass") for text in texts]
    return array
