"""Parquet files, unpacked to a JSON object a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.stored_files import Unpack

if TYPE_CHECKING:
    import pyarrow.parquet as pq

PARQUET = ".parquet"
# From a file's columns to those that are read.
Used: TypeAlias = Callable[[tuple[str, ...]], Sequence[str]]

_ROWS = 4096


def parquet_unpacker(path: str, used: Used) -> Unpack:
    """What unpacks a Parquet file: the columns that are read, as JSON lines.

    Rows in random order would each decode a page of a column.

    Args:
        path: string. What a message calls the file.
        used: Gets the file's columns, and says which are read.

    Example:

    ```python
    StoredFile("pairs.parquet", parquet_unpacker("pairs.parquet", sorted))
    ```
    """

    def unpack(file: IO[bytes], out: IO[bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Without buffering, a whole row group would be held.
            table = pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
            for row in _rows(table, used(tuple(table.schema_arrow.names))):
                out.write(json.dumps(row, ensure_ascii=False, default=_plain).encode())
                out.write(b"\n")
        except (pa.ArrowException, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[:1]
            raise UserError(f"{path}: {' '.join(reason)}") from None

    return unpack


def _rows(table: pq.ParquetFile, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(_ROWS, columns=list(names)):
        for row in batch.to_pylist():
            # NaN, which JSON does not have, is how pandas writes that there is none.
            yield {
                name: None if value != value else value for name, value in row.items()
            }


def _plain(value: Any) -> str:
    """What JSON has no type for; older writers mark texts as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(
        f"expected texts, numbers or lists, received {type(value).__name__}"
    )
