"""The formats of training files: where each example stands, and what it says."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from simcse_tf.core.json_files import parse_json
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.base import Row
from simcse_tf.datasets.source import COLUMNS

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".txt", ".jsonl", *_DELIMITERS)

_BLANK = [""]


class Record(NamedTuple):
    """Where one example stands in a file, in bytes, and what it says.

    Example:

    ```python
    Record(start=0, end=13, row=["A man plays."])
    ```
    """

    start: int
    end: int
    row: list[str]


class FileFormat(Protocol):
    """How one file's examples are found and read.

    Attributes:
        columns: int. How many texts an example has; 0 before `scan` has found it.

    Example:

    ```python
    list(file_format(".csv").scan(LocatedLines("pairs.csv")))  # [Record(...), ...]
    ```
    """

    columns: int

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        """All examples of the file; a blank line is one of blank text.

        Raises:
            UserError: If a line is malformed.
        """
        ...

    def parse(self, record: bytes) -> Row:
        """The example that the bytes of a `Record` hold."""
        ...


def file_format(suffix: str) -> FileFormat:
    """The format of the files with a suffix, for one file.

    Args:
        suffix: string. One of `SUFFIXES`.

    Example:

    ```python
    file_format(".txt").parse(b"A man plays.\\n")  # (b"A man plays.",)
    ```
    """
    if suffix == ".txt":
        return _Text()
    if suffix == ".jsonl":
        return _JsonLines()
    return _Csv(_DELIMITERS[suffix])


class _Text:
    """A sentence a line."""

    columns = 1

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        for line in lines:
            yield Record(lines.start, lines.end, [line])

    def parse(self, record: bytes) -> Row:
        return (record.strip(b"\r\n"),)


class _JsonLines:
    """A JSON object a line, its keys the columns."""

    columns = 0

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        for line in lines:
            row = self._row(line, lines) if line.strip() else _BLANK
            yield Record(lines.start, lines.end, row)

    def parse(self, record: bytes) -> Row:
        values = parse_json(record, "a line", half_pairs=True)
        return _encoded([values[name] for name in COLUMNS[: self.columns]])

    def _row(self, line: str, lines: LocatedLines) -> list[str]:
        values = parse_json(line, lines.place, half_pairs=True)
        if not isinstance(values, dict):
            raise lines.error("expected a JSON object")
        known = [name for name in COLUMNS if name in values]
        others = [name for name in values if name not in COLUMNS]
        self.columns = _checked_columns(self.columns, known + others, lines)
        row: list[Any] = [values[name] for name in COLUMNS[: self.columns]]
        if not all(isinstance(text, str) for text in row):
            raise lines.error("expected a string in every column")
        return row


class _Csv:
    """CSV with the columns in its header, a record in one line or several."""

    def __init__(self, delimiter: str):
        self.columns = 0
        self._delimiter = delimiter

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        rows = self._reader(lines)
        try:
            header = next(rows, None)
            if header is None:
                return
            self.columns = _checked_columns(self.columns, header, lines)
            # A quoted field may hold line breaks: a record starts where the one
            # before it ended.
            start = lines.end
            for row in rows:
                if row and len(row) != self.columns:
                    raise lines.error(
                        f"expected {self.columns} columns, received {len(row)}"
                    )
                yield Record(start, lines.end, row or _BLANK)
                start = lines.end
        except csv.Error as error:
            raise lines.error(str(error)) from None

    def parse(self, record: bytes) -> Row:
        text = record.decode("utf-8")
        return _encoded(next(self._reader(io.StringIO(text, newline=""))))

    def _reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)


def _encoded(row: list[str]) -> Row:
    return tuple(text.encode("utf-8", "surrogatepass") for text in row)


def _checked_columns(columns: int, names: list[str], lines: LocatedLines) -> int:
    """How many columns the header `names` has.

    Args:
        columns: int. How many the lines before had; 0 where there were none.
        names: The columns' names.
        lines: The file, for the message.

    Raises:
        UserError: If the names are other ones.
    """
    allowed = [COLUMNS[:columns]] if columns else [COLUMNS[:2], COLUMNS]
    if tuple(names) not in allowed:
        raise lines.error(
            f"expected the columns {' or '.join(map(','.join, allowed))}, "
            f"received {','.join(names) or 'none'}"
        )
    return len(names)
