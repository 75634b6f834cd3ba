"""Writing the rows of a source as a segment of an index."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from simcse_tf.core.atomic import atomic_write, check_room, sync
from simcse_tf.core.contents import sha256
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.encoding.column_types import ColumnType, ColumnTypes
from simcse_tf.encoding.partial_array import partial_array
from simcse_tf.encoding.records import Record, Scalar
from simcse_tf.indexing.manifest import Segment, StoredFile
from simcse_tf.indexing.record_file import BATCH, TEXT, RecordFile, RecordWriter
from simcse_tf.indexing.sources import Source
from simcse_tf.indexing.vectors import Dtype, encode_vectors, stored_dtype
from simcse_tf.indexing.writing import SEGMENTS
from simcse_tf.model.bulk import progress_bar

_RECORDS, _VECTORS = "records.arrow", "vectors.npy"
# Says what whole vectors were made from, until a manifest names them.
_KEY = "key.txt"


class SegmentWriter:
    """Writes a segment: first its records, then their embeddings.

    A writer of the same records and embeddings goes on where an earlier one was killed.

    Args:
        directory: The index.
        name: string. The segment's.
        source: What its rows are.
        dtype: What embeddings are stored as.
        known: The types of the metadata's columns so far.
        first_id: int. The number of the first row, where rows have no ids. Defaults
            to `0`.
        progress: bool. Whether bars on stderr show it. Defaults to `True`.

    Attributes:
        rows: int. How many there are, once the records are written.
        columns: The types of the metadata's columns, these rows' included.

    Example:

    ```python
    writer = SegmentWriter(directory, "000001", source, "float32", {})
    writer.write_records()
    segment = writer.write_embeddings()
    ```
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        source: Source,
        dtype: Dtype,
        known: Mapping[str, ColumnType],
        first_id: int = 0,
        progress: bool = True,
    ):
        self._directory = directory
        self._source = source
        self._dtype = dtype
        self._first_id = first_id
        self._progress = progress
        self._types = ColumnTypes(known, source.untyped)
        self._place = directory / SEGMENTS / name
        self._paths = [f"{SEGMENTS}/{name}/{file}" for file in (_RECORDS, _VECTORS)]
        self.rows = 0

    @property
    def columns(self) -> dict[str, ColumnType]:
        return self._types.types

    def write_records(self) -> None:
        """Writes ids, texts and metadata.

        Raises:
            OSError: If they cannot be written.
            UserError: If they cannot be read, or two have the same id.
        """
        told = self._observe()
        self._place.mkdir(parents=True, exist_ok=True)
        file = self._place / _RECORDS
        # A hash for each id: what is equal is looked at.
        hashes, digest = array("q"), 0
        with (
            progress_bar(
                self.rows, self._progress, what="writing records", unit="record"
            ) as bar,
            RecordWriter(file, self.columns, self._source.has_texts) as writer,
        ):
            for number, record in enumerate(self._source.records()):
                digest = _digest(digest, record)
                id = self._id(number, record)
                hashes.append(hash(id))
                writer.append(id, *self._values(record))
                bar.update()
        if (len(hashes), digest) != (self.rows, told):
            raise self._changed()
        sync(file)
        self._check_ids(np.frombuffer(hashes, np.int64))

    def records(self) -> RecordFile:
        """The records, once they are written."""
        return RecordFile(self._place / _RECORDS, self.rows, self._source.has_texts)

    def write_embeddings(self) -> Segment:
        """Writes the embeddings of the records.

        Returns:
            The segment, which is on the disk.

        Raises:
            OSError: If they cannot be written.
            UserError: If there are none.
        """
        final = self._place / _VECTORS
        key = self._key()
        if not (final.exists() and _told(self._place / _KEY) == key):
            # It must never stand for vectors of another key.
            (self._place / _KEY).unlink(missing_ok=True)
            sync(self._place)
            self._write_array(final, key)
            with atomic_write(self._place / _KEY) as path:
                path.write_text(key)
        for directory in (self._place, self._place.parent, self._directory):
            sync(directory)
        records, vectors = (StoredFile.of(self._directory, p) for p in self._paths)
        return Segment(rows=self.rows, vectors=vectors, records=records)

    def _observe(self) -> int:
        """Counts the records, and finds the types of their metadata; their digest."""
        name, number, digest = self._source.name, 0, 0
        with progress_bar(None, self._progress, what="reading", unit="record") as bar:
            for number, record in enumerate(self._source.records(), start=1):
                digest = _digest(digest, record)
                self._types.observe(record.metadata, f"{name}, row {number}")
                bar.update()
        self.rows = number
        return digest

    def _id(self, number: int, record: Record) -> str:
        return record.id if self._source.ids_given else str(self._first_id + number)

    def _values(self, record: Record) -> tuple[str | None, dict[str, Scalar]]:
        # As the model reads it.
        text = record.text.decode("utf-8", "replace")
        try:
            metadata = self._types.converted(record.metadata)
        except ValueError:
            raise self._changed() from None
        return text if self._source.has_texts else None, metadata

    def _changed(self) -> UserError:
        return UserError(
            f"{self._source.name} changed while it was read: wait until it is "
            "complete, or take a copy"
        )

    def _check_ids(self, hashes: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(np.diff(hashes[order]) == 0)
        records = self.records()
        for row, other in zip(order[again], order[again + 1], strict=True):
            one, two = records.ids(np.array([row, other]))
            if one == two:
                raise UserError(
                    f"{self._source.name}: rows {row + 1} and {other + 1} both have "
                    f"the id {shown(one)}: expected ids of their own"
                )

    def _key(self) -> str:
        records = sha256(self._place / _RECORDS)
        about = f"{records} {self._source.key} {self._dtype}"
        return hashlib.sha256(about.encode()).hexdigest()

    def _write_array(self, final: Path, key: str) -> None:
        shape = (self.rows, self._source.origin.dimension)
        dtype = stored_dtype(self._dtype)
        with partial_array(final, shape, key, dtype) as rows:
            done = rows.rows_done
            left = (shape[0] - done) * shape[1] * dtype.itemsize
            if left:
                check_room(self._place, left)
            if done:
                total = f"{done} of {self.rows} rows"
                print(f"index: resuming after {total}", file=sys.stderr)
            with progress_bar(self.rows, self._progress, done) as bar:
                for embedded in self._source.embeddings(
                    self._texts, done, self.rows, bar.update
                ):
                    rows.append(encode_vectors(embedded, self._dtype))
            if rows.rows_done != self.rows:
                rows.discard()
                raise self._changed()

    def _texts(self, start: int) -> Iterator[bytes]:
        number, within = divmod(start, BATCH)
        for batch in islice(self.records().batches(), number, None):
            for text in batch.column(TEXT).to_pylist()[within:]:
                yield text.encode()
            within = 0


def _digest(digest: int, record: Record) -> int:
    """A number that tells, within a process, some records from others."""
    return hash((digest, record.id, record.text, *record.metadata.items()))


def _told(file: Path) -> str | None:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return None
