"""The formats that a pipeline reads, and what all have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Protocol

from simcse_tf.core.errors import UserError
from simcse_tf.core.stored_files import suffixes_of
from simcse_tf.pipelines.row_lines import Delimited, JsonLines, Lines
from simcse_tf.pipelines.row_tables import Parquet, TFRecords
from simcse_tf.pipelines.rows import AnyRow, Part, Wanted


class RowFormat(Protocol):
    """A format of files.

    Example:

    ```python
    row_format("reviews.csv").parts("reviews.csv", Wanted(), 1024)
    ```
    """

    def parts(self, path: str, wanted: Wanted, rows: int) -> list[Part]:
        """A file in parts of `rows` rows, the last of fewer.

        Raises:
            UserError: If the file cannot be read or understood at all.
        """
        ...

    def read(self, part: Part) -> Iterator[AnyRow]:
        """The rows of a part."""
        ...


def row_format(path: str) -> RowFormat:
    """The format of a file, by its name.

    Example:

    ```python
    row_format("part.tfrecord-00000-of-00010")
    ```
    """
    suffix, packing = suffixes_of(path)
    if ".tfrecord" in PurePath(path).name.lower():
        return TFRecords()
    if suffix == ".parquet":
        if packing:
            raise UserError(f"{path}: expected a .parquet file without {packing}")
        return Parquet()
    if suffix == ".jsonl":
        return JsonLines()
    return Delimited() if suffix in (".csv", ".tsv") else Lines()
