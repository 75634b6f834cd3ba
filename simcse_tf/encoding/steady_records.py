"""The records of a file that is read twice: counted, and checked, first."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.core.steady_lines import SteadyItems, digest
from simcse_tf.encoding.column_types import ColumnTypes, arrow_type
from simcse_tf.encoding.records import FileRecords, Record

if TYPE_CHECKING:
    import pyarrow as pa


class SteadyRecords(SteadyItems[Record]):
    """The records of a file, counted first.

    Memory is eight bytes a record, for the ids.

    Args:
        path: string. The file.
        records: Its records.

    Attributes:
        digest: string. Of the texts, as for `SteadyLines`.
        fields: The columns of the metadata, as Arrow's fields. One without a value is
            one of texts.

    Raises:
        UserError: If it cannot be read, an id is there twice, or a column's values are
            of several types.

    Example:

    ```python
    records = SteadyRecords("reviews.jsonl", FileRecords("reviews.jsonl"))
    len(records), next(records.read())
    ```
    """

    def __init__(self, path: str, records: FileRecords):
        self._types = ColumnTypes({}, records.untyped)
        self._names: dict[str, None] = {}
        self._ids = array("q")
        self._texts: list[bytes] = []
        super().__init__(path, records, lambda record: repr(record).encode())
        # Embeddings follow from the texts alone.
        self.digest = digest(self._texts).hex()
        self.fields = self._fields()
        if records.ids_given:
            self._check_ids()

    def read(self, start: int = 0) -> Iterator[Record]:
        """The records again, their metadata of their columns' types.

        Args:
            start: int. As for `SteadyLines.read`.

        Raises:
            Changed: If it is no longer the same file. No record that differs is given.
        """
        for record in super().read(start):
            metadata = self._types.converted(record.metadata)
            yield record._replace(metadata=metadata)

    def _note(self, block: list[Record], first: int) -> None:
        self._texts.append(digest([record.text for record in block]))
        self._ids.extend([hash(record.id) for record in block])
        for number, record in enumerate(block, start=first + 1):
            self._types.observe(record.metadata, f"{self._path}, row {number}")
            self._names.update(dict.fromkeys(record.metadata))

    def _fields(self) -> list[pa.Field]:
        import pyarrow as pa

        types = self._types.types
        return [
            pa.field(name, arrow_type(types.get(name, "string")))
            for name in self._names
        ]

    def _check_ids(self) -> None:
        """Looks for an id that is there twice, among those of which the hash is."""
        hashes = np.sort(np.frombuffer(self._ids, np.int64))
        again = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        self._ids = array("q")
        if not again:
            return
        rows: dict[str, int] = {}
        for number, record in enumerate(self.read(), start=1):
            if hash(record.id) not in again:
                continue
            if record.id in rows:
                raise UserError(
                    f"{self._path}: expected another id for each row, received "
                    f"{shown(record.id)} in row {rows[record.id]} and in row {number}, "
                    "counted from 1"
                )
            rows[record.id] = number
