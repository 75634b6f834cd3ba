"""The file of a segment's ids, texts and metadata.

Arrow's file format, mapped to memory and not compressed: a row is read without the
others. Parquet decodes a page of each column for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.column_types import ColumnType, arrow_type
from simcse_tf.encoding.records import Scalar

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are written together.
BATCH = 4096
ID, TEXT = "id", "text"
# So that a column of the user's may have any name.
_METADATA = "metadata."

# An array or a batch.
_Part = TypeVar("_Part", bound=Any)


class RecordWriter:
    """Writes the file.

    Args:
        file: The file.
        columns: The types of the metadata's columns.
        has_texts: bool. Whether there are texts.

    Example:

    ```python
    with RecordWriter(path, {"stars": "int"}, has_texts=True) as writer:
        writer.append("7", "I liked it.", {"stars": 5})
    ```
    """

    def __init__(self, file: Path, columns: Mapping[str, ColumnType], has_texts: bool):
        import pyarrow as pa

        self._columns = list(columns)
        self._has_texts = has_texts
        self._schema = _schema(columns, has_texts)
        self._writer = pa.ipc.new_file(str(file), self._schema)
        self._rows: list[list[Any]] = []

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if error == (None, None, None):
            self._flush()
        self._writer.close()

    def append(self, id: str, text: str | None, metadata: Mapping[str, Scalar]) -> None:
        """Writes a row.

        Args:
            id: string.
            text: string, if there are texts.
            metadata: The values, each of its column's type or none.

        Raises:
            OSError: If it cannot be written.
        """
        row: list[Any] = [id, text] if self._has_texts else [id]
        self._rows.append(row + [metadata.get(name) for name in self._columns])
        if len(self._rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(values, field.type)
                for values, field in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows = []


class RecordFile:
    """Reads the file.

    Args:
        file: The file.
        rows: int. How many it must have.
        has_texts: bool. Whether there must be texts.

    Raises:
        UserError: If it cannot be read, or is another.

    Example:

    ```python
    RecordFile(path, 1000000, has_texts=True).ids(np.array([7]))  # ["7"]
    ```
    """

    def __init__(self, file: Path, rows: int, has_texts: bool):
        import pyarrow as pa

        self._file = file
        self._rows = rows
        # Those that were looked up: where they are in the mapped file, no copies.
        self._batches: dict[int, pa.RecordBatch] = {}
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(file)))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        names = self._reader.schema.names
        if ID not in names or (TEXT in names) != has_texts:
            raise self._damaged(f"it has the columns {', '.join(names)}")
        if self._reader.num_record_batches != -(-rows // BATCH):
            raise self._damaged(f"expected {rows} rows")
        self.columns = [
            name.removeprefix(_METADATA) for name in names if name not in (ID, TEXT)
        ]

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of some rows, int64 `(m,)`."""
        return self._look_up(rows, lambda batch: batch.column(ID))

    def texts(self, rows: np.ndarray) -> list[str]:
        """The texts of some rows, int64 `(m,)`."""
        return self._look_up(rows, lambda batch: batch.column(TEXT))

    def metadata(self, rows: np.ndarray) -> list[dict[str, Scalar]]:
        """The metadata of some rows, int64 `(m,)`."""
        if not self.columns:
            return [{} for _ in rows]
        found = self._look_up(rows, lambda batch: _metadata_of(batch).to_struct_array())
        return found

    def batches(self, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, some thousands at a time.

        Args:
            names: Optional strings. The metadata's columns that are read. Defaults to
                `None`: ids, and texts if there are any.
        """
        for number in range(self._reader.num_record_batches):
            batch = self._batch(number)
            if names is None:
                own = [name for name in (ID, TEXT) if name in batch.schema.names]
                yield self._checked(batch.select(own))
            else:
                own = [name for name in names if name in self.columns]
                yield self._checked(_metadata_of(batch).select(own))

    def _look_up(
        self, rows: np.ndarray, part: Callable[[pa.RecordBatch], Any]
    ) -> list[Any]:
        columns: dict[int, Any] = {}
        found = []
        for number, place in zip(*np.divmod(rows, BATCH), strict=True):
            if number not in columns:
                columns[number] = part(self._batch(int(number)))
            row = columns[number].slice(place, 1)
            found.append(self._checked(row).to_pylist()[0])
        return found

    def _batch(self, number: int) -> pa.RecordBatch:
        import pyarrow as pa

        if number in self._batches:
            return self._batches[number]
        try:
            batch = self._reader.get_batch(number)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        expected = min(BATCH, self._rows - number * BATCH)
        if batch.num_rows != expected:
            raise self._damaged(f"expected {expected} rows, received {batch.num_rows}")
        self._batches[number] = batch
        return batch

    def _checked(self, part: _Part) -> _Part:
        """Part of the file as it is, once it was looked at."""
        import pyarrow as pa

        try:
            # A wrong offset would be read from anywhere.
            part.validate(full=True)
        except pa.ArrowException as error:
            raise self._damaged(error) from None
        return part

    def _damaged(self, reason: object) -> UserError:
        return UserError(f"{self._file} is damaged: {reason}")


def _schema(columns: Mapping[str, ColumnType], has_texts: bool) -> pa.Schema:
    import pyarrow as pa

    own = [(ID, pa.string()), (TEXT, pa.string())] if has_texts else [(ID, pa.string())]
    return pa.schema(
        own + [(_METADATA + name, arrow_type(kind)) for name, kind in columns.items()]
    )


def _metadata_of(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = [name for name in batch.schema.names if name.startswith(_METADATA)]
    found = batch.select(names)
    return found.rename_columns([name.removeprefix(_METADATA) for name in names])
