"""Files with a row a line: CSV, TSV, JSONL, and what is unpacked to one of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import parse_json
from simcse_tf.core.parquet_rows import PARQUET, Used, parquet_unpacker
from simcse_tf.core.regular_files import check_file
from simcse_tf.core.stored_files import StoredFile, decompression, suffixes_of
from simcse_tf.core.text_lines import LocatedLines, check_text


class RowFile:
    """The lines of a file from the first one on, as often as they are asked for.

    With `.gz` or `.zst` behind its name it is unpacked, and so is a `.parquet` file: to
    a temporary file.

    Args:
        path: string. The file.
        used: Function from a Parquet file's columns to those that are read.

    Attributes:
        suffix: string. Says what a line is: `.jsonl` for a `.parquet` file.

    Raises:
        UserError: If it cannot be read or unpacked.

    Example:

    ```python
    for line in RowFile("reviews.csv.gz").lines():
        print(line)
    ```
    """

    def __init__(self, path: str, used: Used = lambda names: names):
        suffix, packing = suffixes_of(path)
        check_file(path)
        self._path = path
        self._is_parquet = suffix == PARQUET
        self.suffix = ".jsonl" if self._is_parquet else suffix
        if self._is_parquet and packing:
            raise UserError(f"{path}: expected a .parquet file without {packing}")
        unpack = (
            parquet_unpacker(path, used) if self._is_parquet else decompression(packing)
        )
        self._unpacked = StoredFile(path, unpack) if unpack else None
        if unpack is None:
            check_text(path)

    def lines(self, errors: str = "strict") -> LocatedLines:
        """The lines.

        Args:
            errors: string. As for `LocatedLines`.
        """
        return LocatedLines(
            self._path,
            self._unpacked.lines() if self._unpacked else None,
            unit="row" if self._is_parquet else "line",
            errors=errors,
        )


def json_row(
    line: str, lines: LocatedLines, half_pairs: bool = False
) -> dict[str, Any]:
    """The values of a line of JSONL, by column.

    Args:
        line: string.
        lines: The lines that it is the last one of, for messages.
        half_pairs: bool. As for `parse_json`.

    Raises:
        UserError: If it is no JSON object.

    Example:

    ```python
    json_row('{"text": "A man plays."}', lines)  # {"text": "A man plays."}
    ```
    """
    values = parse_json(line, lines.place, half_pairs=half_pairs)
    if not isinstance(values, dict):
        raise lines.error("expected a JSON object")
    return values


def split_rows(
    lines: Iterable[str], delimiter: str, quoted: bool
) -> Iterator[list[str]]:
    """The fields of each row of a CSV or TSV file; of a blank line, none.

    Args:
        lines: Iterable of strings, with their ends.
        delimiter: string.
        quoted: bool. Whether a field in quotation marks may hold anything. Otherwise
            they are text.

    Raises:
        csv.Error: If quotation marks are where none may be.

    Example:

    ```python
    list(split_rows(['"a, b",c\\n'], ",", quoted=True))  # [["a, b", "c"]]
    ```
    """
    if quoted:
        return csv.reader(lines, delimiter=delimiter, strict=True)
    plain = (line.removesuffix("\n").removesuffix("\r") for line in lines)
    return (line.split(delimiter) if line else [] for line in plain)
