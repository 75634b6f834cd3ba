"""Parquet and TFRecord files in parts, whose rows are found by their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any

from simcse_tf.core.errors import UserError
from simcse_tf.core.stored_files import suffixes_of
from simcse_tf.pipelines.files import local_file, open_bytes
from simcse_tf.pipelines.rows import (
    AnyRow,
    BadRow,
    KnownColumns,
    Part,
    Wanted,
    chosen_columns,
    row_of,
)

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Records that are looked at for the columns.
_LOOKED_AT = 1000


class Parquet:
    """Columns with types.

    Example:

    ```python
    Parquet().parts("reviews.parquet", Wanted(), 1024)
    ```
    """

    def parts(self, path: str, wanted: Wanted, rows: int) -> list[Part]:
        with open_bytes(path) as file, _told(path):
            table = _table(file)
            names = dict.fromkeys(table.schema_arrow.names)
            text, id = chosen_columns(path, iter([names]), wanted.text, wanted.id)
            count = table.metadata.num_rows
        return _numbered(path, count, rows, text, id)

    def read(self, part: Part) -> Iterator[AnyRow]:
        columns = KnownColumns(part.text, part.id, differ=False)
        names = [name for name in (part.text, part.id) if name is not None]
        with open_bytes(part.path) as file, _told(part.path):
            table = _table(file)
            groups, before = _groups(table, part.first, part.first + part.rows)
            batches = table.iter_batches(4096, row_groups=groups, columns=names)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            skipped = part.first - before
            for number, values in enumerate(
                islice(rows, skipped, skipped + part.rows), part.first
            ):
                plain = {name: _plain(value) for name, value in values.items()}
                yield row_of(number, plain, columns)


class TFRecords:
    """Records of `tf.train.Example`, their features the columns.

    Example:

    ```python
    TFRecords().parts("reviews.tfrecord", Wanted(), 1024)
    ```
    """

    def parts(self, path: str, wanted: Wanted, rows: int) -> list[Part]:
        import tensorflow as tf

        with _records(path) as records:
            count = int(records.reduce(tf.constant(0, tf.int64), lambda n, _: n + 1))
            if not count:
                return []
            first = records.take(_LOOKED_AT).as_numpy_iterator()
            text, id = chosen_columns(path, _good_examples(first), *wanted[:2])
        return _numbered(path, count, rows, text, id)

    def read(self, part: Part) -> Iterator[AnyRow]:
        columns = KnownColumns(part.text, part.id, differ=True)
        with _records(part.path) as records:
            chosen = records.skip(part.first).take(part.rows).as_numpy_iterator()
            for number, record in enumerate(chosen, part.first):
                try:
                    values = _features(record)
                except ValueError as error:
                    yield BadRow(number, str(error))
                else:
                    yield row_of(number, values, columns)


def _numbered(
    path: str, count: int, rows: int, text: str | None, id: str | None
) -> list[Part]:
    return [
        Part(path, first, min(rows, count - first), 0, (), text, id, None)
        for first in range(0, count, rows)
    ]


def _table(file: IO[bytes]) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    # Without buffering, a whole row group would be held.
    return pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)


def _groups(table: pq.ParquetFile, first: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold some rows, and how many rows stand before them."""
    groups, before, begins = [], 0, 0
    for group in range(table.num_row_groups):
        ends = begins + table.metadata.row_group(group).num_rows
        if ends <= first:
            before = ends
        elif begins < end:
            groups.append(group)
        begins = ends
    return groups, before


def _plain(value: Any) -> Any:
    """A value of Parquet as JSON has it; older writers mark texts as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and math.isnan(value):
        # How pandas writes that there is none.
        return None
    return str(value) if isinstance(value, Decimal) else value


@contextmanager
def _told(path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[:1]
        raise UserError(f"{path}: {' '.join(reason)}") from None


@contextmanager
def _records(path: str) -> Iterator[Any]:
    import tensorflow as tf

    packing = "GZIP" if suffixes_of(path)[1] else ""
    with local_file(path) as file:
        try:
            yield tf.data.TFRecordDataset(file, compression_type=packing)
        except tf.errors.OpError as error:
            raise UserError(
                f"{path} is cut short or damaged: {error.message}"
            ) from None


def _good_examples(records: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
    for record in records:
        try:
            yield _features(record)
        except ValueError:
            continue


def _features(record: bytes) -> dict[str, Any]:
    """The features of an Example: a value where there is one, else a list."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        example = tf.train.Example.FromString(record)
    except DecodeError:
        raise ValueError("expected a tf.train.Example") from None
    found = {}
    for name in sorted(example.features.feature):
        feature = example.features.feature[name]
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        plain = [_plain(value) for value in values]
        found[name] = plain[0] if len(plain) == 1 else plain
    return found
