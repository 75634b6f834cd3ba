"""The formats of training files: where each example stands, and what it says."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import parse_json, shortened, shown
from simcse_tf.core.row_files import json_row, split_rows
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.columns import TEXT, Columns, Layout, Layouts
from simcse_tf.data.examples import Example

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".txt", ".jsonl", *_DELIMITERS)
QUOTED, UNQUOTED = "quoted", "none"

_QUOTED_BREAKS = (
    f"data.quoting {QUOTED} reads tabs and line breaks between quotation marks"
)

_BREAK = re.compile(r"[\t\r\n]")


class Record(NamedTuple):
    """Where one example stands in a file, in bytes, and what it says.

    Attributes:
        start: int. Its first byte.
        end: int. The byte behind it.
        first_line: int. Its first line, counted from 1.
        example: What it says; `None` for a blank line.
        values: Its values by column, those among them that the example leaves out;
            none of a file without columns.

    Example:

    ```python
    Record(start=0, end=13, first_line=1, example=Example(("A man plays.",)))
    ```
    """

    start: int
    end: int
    first_line: int
    example: Example | None
    values: Mapping[str, Any] = MappingProxyType({})


class FileFormat(Protocol):
    """How one file's examples are found and read.

    Attributes:
        layouts: What the file's columns mean.

    Example:

    ```python
    list(file_format(".csv").scan(LocatedLines("pairs.csv")))  # [Record(...), ...]
    ```
    """

    layouts: Layouts

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        """All examples of the file.

        Raises:
            UserError: If a line is malformed.
        """
        ...

    def parse(self, record: bytes) -> Example:
        """The example that the bytes of a `Record` hold."""
        ...


def file_format(
    suffix: str, columns: Columns | None = None, quoting: str | None = None
) -> FileFormat:
    """The format of the files with a suffix, for one file.

    Args:
        suffix: string. One of `SUFFIXES`.
        columns: Optional mapping. As for `simcse_tf.data.columns.layout_of`.
        quoting: Optional string, for `.csv` and `.tsv`. `"quoted"`: a field in
            quotation marks may hold anything. `"none"`: quotation marks are text.
            Defaults to `None`: a `.csv` file is quoted, and a `.tsv` file if its header
            is.

    Example:

    ```python
    file_format(".txt").parse(b"A man plays.\\n")  # Example(("A man plays.",))
    ```
    """
    if suffix == ".txt":
        return _Text()
    if suffix == ".jsonl":
        return _JsonLines(columns)
    return _Delimited(_DELIMITERS[suffix], columns, quoting)


class _Text:
    """A sentence a line."""

    def __init__(self) -> None:
        self.layouts = Layouts()
        self.layouts.of(TEXT)

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        for line in lines:
            yield Record(lines.start, lines.end, lines.number, _sentence(line))

    def parse(self, record: bytes) -> Example:
        return _sentence(record.decode("utf-8"))


def _sentence(line: str) -> Example:
    return Example((line.strip("\r\n"),))


class _JsonLines:
    """A JSON object a line, its keys the columns."""

    def __init__(self, columns: Columns | None):
        self.layouts = Layouts(columns)

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        for line in lines:
            example, values = None, {}
            if line.strip():
                values = json_row(line, lines, half_pairs=True)
                try:
                    example = self.layouts.of(tuple(values)).example(values)
                except ValueError as error:
                    raise lines.error(str(error)) from None
            yield Record(lines.start, lines.end, lines.number, example, values)

    def parse(self, record: bytes) -> Example:
        values = parse_json(record, "a line", half_pairs=True)
        return self.layouts.of(tuple(values)).example(values)


class _Delimited:
    """Columns between delimiters, their names in the header."""

    def __init__(self, delimiter: str, columns: Columns | None, quoting: str | None):
        self.layouts = Layouts(columns)
        self._delimiter = delimiter
        self._asked = quoting is not None
        self._quoted = quoting == QUOTED or (quoting is None and delimiter == ",")
        self._names: tuple[str, ...] = ()
        self._layout = Layout(TEXT, TEXT)

    def scan(self, lines: LocatedLines) -> Iterator[Record]:
        all_lines = iter(lines)
        header = next(all_lines, None)
        if header is None:
            return
        if not self._asked:
            self._quoted = self._quoted or self._is_quoted(header)
        rows = split_rows(chain([header], all_lines), self._delimiter, self._quoted)
        first = 1
        try:
            self._read_header(next(rows), lines)
            # A quoted field may hold line breaks: a record starts where the one
            # before it ended.
            start, first = lines.end, lines.number + 1
            for row in rows:
                example, values = None, {}
                if row:
                    self._check(row, lines)
                    values = dict(zip(self._names, row, strict=True))
                    example = self._layout.example(values)
                yield Record(start, lines.end, first, example, values)
                start, first = lines.end, lines.number + 1
        except csv.Error as error:
            begins = f" in the row from line {first} on" if first < lines.number else ""
            raise lines.error(f"{error}{begins}") from None
        except UserError:
            raise
        except ValueError as error:
            raise lines.error(str(error)) from None

    def parse(self, record: bytes) -> Example:
        text = io.StringIO(record.decode("utf-8"), newline="\n")
        row = next(split_rows(text, self._delimiter, self._quoted))
        return self._layout.example(dict(zip(self._names, row, strict=True)))

    def _is_quoted(self, header: str) -> bool:
        names = header.rstrip("\r\n").split(self._delimiter)
        return all(len(name) > 1 and name[0] == name[-1] == '"' for name in names)

    def _read_header(self, names: list[str], lines: LocatedLines) -> None:
        other = [character for character in ";\t,|" if character in "".join(names)]
        if len(names) == 1 and other:
            wanted = "commas" if self._delimiter == "," else "tabs"
            raise lines.error(
                f"expected columns separated by {wanted}, received "
                f"{shown(shortened(names[0]))}"
            )
        self._names = tuple(names)
        self._layout = self.layouts.of(self._names)

    def _check(self, row: list[str], lines: LocatedLines) -> None:
        """Refuses a row that the file's writer may have meant otherwise."""
        open_question = self._delimiter == "\t" and not self._asked
        if open_question and (doubt := _doubt(row, self._quoted)):
            raise lines.error(doubt)
        if len(row) != len(self._names):
            marks = open_question and any('"' in field for field in row)
            raise lines.error(
                f"expected {len(self._names)} columns, received {len(row)}"
                + f"; {_QUOTED_BREAKS}" * marks
            )


def _doubt(row: list[str], quoted: bool) -> str:
    """What makes it doubtful whether a TSV file is quoted; empty if nothing does."""
    for field in row:
        if quoted and _BREAK.search(field):
            return f"a field holds a tab or a line break; {_QUOTED_BREAKS}"
        if not quoted and "\r" in field:
            return "a field holds a carriage return, which ends a line in other files"
        if not quoted and _looks_quoted(field):
            return (
                f"{shown(shortened(field))} looks quoted: expected data.quoting to say "
                f"that the file is ({QUOTED}) or that the marks are text ({UNQUOTED})"
            )
    return ""


def _looks_quoted(field: str) -> bool:
    """Whether a field is what a CSV writer makes of text with quotation marks."""
    inner = field[1:-1]
    return (
        len(field) > 3
        and field[0] == field[-1] == '"'
        and '""' in inner
        and '"' not in inner.replace('""', "")
    )
