"""Reading an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.column_types import ColumnType
from simcse_tf.encoding.records import Scalar
from simcse_tf.indexing.manifest import Manifest, read_manifest
from simcse_tf.indexing.record_file import RecordFile
from simcse_tf.indexing.vectors import decode_vectors, open_vectors

if TYPE_CHECKING:
    import pyarrow as pa

    from simcse_tf.indexing.search import Searcher

_Found = TypeVar("_Found")

# Writers may come in between, a few times.
_ATTEMPTS = 5


class Hit(NamedTuple):
    """A row that was found.

    Attributes:
        row: int. Its number in the index.
        id: string.
        text: string. Empty in an index without texts.
        cosine: float. With the query, to six decimals.
        metadata: The other values of its row.

    Example:

    ```python
    Hit(12, "7", "A man plays a guitar.", 0.912345, {"stars": 5})
    ```
    """

    row: int
    id: str
    text: str
    cosine: float
    metadata: dict[str, Scalar]


class Segment(NamedTuple):
    """Rows that were written together.

    Attributes:
        first: int. The number of the first row.
        vectors: Array `(rows, dim)` as it is stored, mapped to memory.
        records: Their ids, texts and metadata.

    Example:

    ```python
    for segment in index.segments:
        print(segment.first, len(segment.vectors))
    ```
    """

    first: int
    vectors: np.ndarray
    records: RecordFile


class Index:
    """The rows of an index, as they were when it was opened.

    Rows are numbered from 0, in the order in which they were added; a row that was
    removed keeps its number. Files are mapped to memory. Writers change none of them,
    so an open index goes on as it is.

    Args:
        directory: The index.
        manifest: What it is.

    Attributes:
        directory: The index.
        manifest: What it is, a `Manifest`.
        rows: int. How many rows there are, removed ones too.
        dimension: int. Of an embedding.
        live: bool array `(rows,)`. Which rows count.
        segments: Rows that were written together, in order.

    Raises:
        UserError: If a file is missing, or not as it was written.

    Example:

    ```python
    index = Index.open("wiki.index")
    index.texts(np.array([7]))  # ["A man plays a guitar."]
    ```
    """

    def __init__(self, directory: Path, manifest: Manifest):
        self.directory = directory
        self.manifest = manifest
        self.rows = manifest.rows
        self.dimension = manifest.dimension
        for file in manifest.files:
            file.check(directory)
        self.segments: list[Segment] = []
        first = 0
        for each in manifest.segments:
            shape = (each.rows, manifest.dimension)
            vectors = open_vectors(directory / each.vectors.path, shape, manifest.dtype)
            path = directory / each.records.path
            records = RecordFile(path, each.rows, manifest.has_texts)
            self.segments.append(Segment(first, vectors, records))
            first += each.rows
        self._starts = np.array([s.first for s in self.segments], np.int64)
        self.live = np.ones(self.rows, bool)
        self.live[_removed_rows(directory, manifest)] = False

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Index:
        """Opens an index, also while another process writes to it.

        Args:
            directory: The index.

        Raises:
            UserError: If it is none, or not whole.
        """
        place = Path(directory)
        manifest = read_manifest(place)
        for _ in range(_ATTEMPTS):
            try:
                return cls(place, manifest)
            except UserError:
                # A file may have gone with a change of the index.
                changed = read_manifest(place)
                if changed == manifest:
                    raise
                manifest = changed
        return cls(place, manifest)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of some rows.

        Args:
            rows: int64 array `(m,)`.

        Returns:
            float32 array `(m, dim)`, rows of unit length.
        """
        found = np.empty((len(rows), self.dimension), np.float32)
        for places, segment, own in self._by_segment(rows):
            stored = segment.vectors[own]
            found[places] = decode_vectors(stored, self.manifest.dtype)
        return found

    def blocks(
        self, at_once: int = 16384, start: int = 0
    ) -> Iterator[tuple[int, np.ndarray]]:
        """All embeddings in order, some at a time; removed rows too.

        Args:
            at_once: int. The most rows of a block. Defaults to `16384`.
            start: int. The first row. Defaults to `0`.

        Yields:
            The number of the first row, and a float32 array `(m, dim)`, rows of unit
            length.
        """
        for segment in self.segments:
            rows = len(segment.vectors)
            for row in range(max(0, start - segment.first), rows, at_once):
                stored = segment.vectors[row : row + at_once]
                vectors = decode_vectors(stored, self.manifest.dtype)
                yield segment.first + row, vectors

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of some rows, int64 `(m,)`."""
        return self._records(rows, RecordFile.ids)

    def texts(self, rows: np.ndarray) -> list[str]:
        """The texts of some rows, int64 `(m,)`; empty ones in an index without."""
        if not self.manifest.has_texts:
            return [""] * len(rows)
        return self._records(rows, RecordFile.texts)

    def metadata(self, rows: np.ndarray) -> list[dict[str, Scalar]]:
        """The metadata of some rows, int64 `(m,)`: a value or `None` a column."""
        found = self._records(rows, RecordFile.metadata)
        columns = self.manifest.columns.items()
        return [{n: _of_type(values.get(n), t) for n, t in columns} for values in found]

    def columns(self, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Columns of metadata in order of the rows, some thousands at a time.

        Args:
            names: Columns. One that no row of a segment has is not in its batches.

        Yields:
            The number of the first row, and a `pyarrow.RecordBatch`.
        """
        return self._batches(names)

    def ids_and_texts(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Ids, and texts if there are any, in order, some thousands at a time.

        Yields:
            The number of the first row, and a `pyarrow.RecordBatch`.
        """
        return self._batches(None)

    def search(self, queries: ArrayLike, k: int, **options: Any) -> list[list[Hit]]:
        """The rows nearest to each query.

        Args:
            queries: `(q, dim)`.
            k: int. Rows for each, at most.
            options: `threshold`, `where`, `exact` and `effort`, as for
                `simcse_tf.indexing.search.Searcher.search`.

        Returns:
            For each query a list of `Hit`, the nearest first.

        Raises:
            UserError: If something is not as expected.
        """
        return self._searcher.search(queries, k, **options)

    @cached_property
    def _searcher(self) -> Searcher:
        from simcse_tf.indexing.search import Searcher

        return Searcher(self)

    def _batches(
        self, names: Sequence[str] | None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        for segment in self.segments:
            row = segment.first
            for batch in segment.records.batches(names):
                yield row, batch
                row += batch.num_rows

    def _records(
        self,
        rows: np.ndarray,
        look_up: Callable[[RecordFile, np.ndarray], list[_Found]],
    ) -> list[_Found]:
        found: dict[int, _Found] = {}
        for places, segment, own in self._by_segment(rows):
            values = look_up(segment.records, own)
            found.update(zip(places.tolist(), values, strict=True))
        return [found[place] for place in range(len(rows))]

    def _by_segment(
        self, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Segment, np.ndarray]]:
        """Where some rows stand: their places among them, and rows of a segment."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.rows:
            raise IndexError(f"expected rows from 0 to {self.rows - 1}")
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            segment = self.segments[number]
            yield places, segment, rows[places] - segment.first


def _of_type(value: Scalar, kind: ColumnType) -> Scalar:
    # Rows that were there before a column's first fraction.
    return float(value) if kind == "float" and isinstance(value, int) else value


def _removed_rows(directory: Path, manifest: Manifest) -> np.ndarray:
    if manifest.removed is None:
        return np.empty(0, np.int64)
    file = directory / manifest.removed.file.path
    try:
        removed = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    _check_removed(removed, manifest, file)
    return removed


def _check_removed(removed: np.ndarray, manifest: Manifest, file: Path) -> None:
    assert manifest.removed is not None
    inside = (
        removed.shape == (manifest.removed.rows,)
        and removed.dtype == np.int64
        and bool((np.diff(removed, prepend=-1) > 0).all())
        and removed[-1] < manifest.rows
    )
    if not inside:
        raise UserError(f"{file} is damaged: expected numbers of rows in order")
