"""Records whose embeddings are there already, in files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import check_file
from simcse_tf.core.vectors import check_finite, l2_normalize
from simcse_tf.encoding.embedding_files import (
    BINARY,
    EMBEDDING,
    ID,
    TEXT,
    EmbeddingsAbout,
    embeddings_about,
    stored_rows,
)
from simcse_tf.encoding.records import FileRecords, Record
from simcse_tf.indexing.sources import Origin, RecordSource

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows at a time: each block waits for the disk once.
_ROWS = 16384
# Rows of float32 embeddings may be that far from unit length.
_TOLERANCE = 1e-3


class EmbeddingFiles:
    """The rows of Parquet files as `encode --format parquet` and pipelines write them.

    Args:
        paths: Sequence of strings. The files, which the same model made.
        metadata: Optional sequence of strings. The columns that come along. Defaults
            to `None`: all others.

    Attributes:
        about: What made them.

    Raises:
        UserError: If one cannot be read, is no such file or of another model.

    Example:

    ```python
    build("wiki.index", EmbeddingFiles(["part-0.parquet", "part-1.parquet"]))
    ```
    """

    ids_given = True
    untyped = False

    def __init__(self, paths: Sequence[str], metadata: Sequence[str] | None = None):
        self.name = paths[0] if len(paths) == 1 else f"{paths[0]} and others"
        self._paths = paths
        schemas = [_schema_of(path) for path in paths]
        self.about = embeddings_about(schemas[0], paths[0])
        self.has_texts = TEXT in schemas[0].names
        for path, schema in zip(paths, schemas, strict=True):
            self._check_alike(path, schema)
        self._metadata = [
            name
            for name in dict.fromkeys(name for s in schemas for name in s.names)
            if name not in (ID, TEXT, EMBEDDING)
            and (metadata is None or name in metadata)
        ]
        if missing := set(metadata or ()) - set(self._metadata):
            raise UserError(f"--metadata: {self.name} has no column {min(missing)!r}")
        self.origin = _origin_of(self.about)
        self.key = json.dumps([_stamp(path) for path in paths])

    def records(self) -> Iterator[Record]:
        names = [ID, *([TEXT] if self.has_texts else []), *self._metadata]
        for path in self._paths:
            row = 0
            for batch in _batches(path, names):
                for values in batch.to_pylist():
                    row += 1
                    yield _record(values, f"{path}, row {row}")

    def embeddings(
        self,
        texts: Callable[[int], Iterable[bytes]],
        start: int,
        rows: int,
        advance: Callable[[int], Any],
    ) -> Iterator[np.ndarray]:
        before = 0
        for path in self._paths:
            row = 0
            for batch in _batches(path, [EMBEDDING]):
                left_out = min(max(0, start - before), len(batch))
                before += len(batch)
                with _told(f"{path}, row {row + 1}"):
                    stored = stored_rows(batch.column(EMBEDDING))[left_out:]
                    vectors = self.about.decoded(stored)
                yield _unit(vectors, path, row + left_out + 1)
                row += len(batch)
                advance(len(stored))

    def _check_alike(self, path: str, schema: pa.Schema) -> None:
        about = embeddings_about(schema, path)
        if about.values == BINARY:
            raise UserError(
                f"{path}: expected embeddings in float32 or int8, received one bit a "
                "dimension: they tell too little to rank by"
            )
        for what in ("fingerprint", "model", "dimension", "prompt", "values"):
            one, other = getattr(self.about, what), getattr(about, what)
            known = None not in (self.about.fingerprint, about.fingerprint)
            if one != other and not (what == "model" and known):
                raise UserError(
                    f"{path}: expected the {what} {one} as in {self._paths[0]}, "
                    f"received {other}"
                )
        if (TEXT in schema.names) != self.has_texts:
            raise UserError(
                f"{path}: expected texts in all files or in none, as in "
                f"{self._paths[0]}"
            )


class ArrayFile(RecordSource):
    """A file's records, and their embeddings in a NumPy file.

    Args:
        records: The records.
        name: string. Their file.
        path: string. The `.npy` file, a row a record.
        origin: What made the embeddings.

    Attributes:
        array: The embeddings, mapped to memory.

    Raises:
        UserError: If it cannot be read or has other dimensions.

    Example:

    ```python
    ArrayFile(FileRecords("wiki.txt"), "wiki.txt", "wiki.npy", origin)
    ```
    """

    def __init__(self, records: FileRecords, name: str, path: str, origin: Origin):
        super().__init__(records, name)
        self.origin = origin
        self.key = json.dumps([_stamp(path), astuple(origin)])
        self.path = path
        self.array = open_array(path, origin.dimension)

    def embeddings(
        self,
        texts: Callable[[int], Iterable[bytes]],
        start: int,
        rows: int,
        advance: Callable[[int], Any],
    ) -> Iterator[np.ndarray]:
        if len(self.array) != rows:
            raise UserError(
                f"{self.path} has {len(self.array)} rows, and {self.name} {rows}: "
                "expected an embedding for each"
            )
        for row in range(start, rows, _ROWS):
            vectors = np.array(self.array[row : row + _ROWS], np.float32)
            yield _unit(vectors, self.path, row + 1)
            advance(len(vectors))


def open_array(path: str, dimension: int) -> np.ndarray:
    """Maps a NumPy file of embeddings to memory.

    Args:
        path: string. The file.
        dimension: int. Of its rows.

    Raises:
        UserError: If it is no such file.

    Example:

    ```python
    open_array("wiki.npy", 384).shape  # (1000000, 384)
    ```
    """
    check_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    is_matrix = isinstance(array, np.ndarray) and array.ndim == 2
    if not is_matrix or array.dtype.kind != "f" or array.shape[1] != dimension:
        what = f"{array.dtype} of {array.shape}" if is_matrix else "something else"
        raise UserError(
            f"{path}: expected floats of shape (n, {dimension}), received {what}"
        )
    return array


def _schema_of(path: str) -> pa.Schema:
    with _parquet(path) as file:
        return file.schema_arrow


def _batches(path: str, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with _parquet(path) as file:
        own = [name for name in names if name in file.schema_arrow.names]
        yield from file.iter_batches(_ROWS, columns=own)


@contextmanager
def _parquet(path: str) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(path)
    try:
        # Without buffering, a whole row group would be held.
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {path}: {reason}") from None


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{place} or after it: {error}") from None


def _record(values: dict[str, Any], place: str) -> Record:
    id, text = values.pop(ID), values.pop(TEXT, None)
    if not id:
        raise UserError(f"{place}: expected an id, received none")
    for name, value in values.items():
        if not isinstance(value, str | int | float | bool | None):
            raise UserError(
                f"{place}: expected a text, a number, true, false or null in {name}, "
                f"received a {type(value).__name__}: --metadata names the columns that "
                "come along"
            )
        if value != value:
            # How pandas writes that there is none.
            values[name] = None
    return Record(id, (text or "").encode(), values)


def _origin_of(about: EmbeddingsAbout) -> Origin:
    return Origin(
        model=about.model,
        fingerprint=about.fingerprint,
        dimension=about.dimension,
        pooling=about.pooling,
        max_length=about.max_length,
        prompt=about.prompt,
        truncate_dim=about.truncate_dim,
    )


def _unit(vectors: np.ndarray, path: str, first: int) -> np.ndarray:
    """Rows of unit length; those that have it stay as they are."""
    check_finite(vectors, path, first)
    lengths = np.linalg.norm(vectors, axis=1)
    if (np.abs(lengths - 1) < _TOLERANCE).all():
        return vectors
    return l2_normalize(vectors)


def _stamp(path: str) -> tuple[str, int, int]:
    about = os.stat(path)
    return os.path.realpath(path), about.st_size, about.st_mtime_ns
