"""Files of lines in parts, each of which begins at a byte of the file.

What a row says is what `encode` reads there.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO, Any

from simcse_tf.core.errors import UserError
from simcse_tf.core.stored_files import suffixes_of
from simcse_tf.core.text_lines import LocatedLines, check_text
from simcse_tf.data.columns import TEXT, Layout, Layouts
from simcse_tf.data.file_formats import QUOTED, Record, file_format
from simcse_tf.pipelines.files import is_local, open_bytes
from simcse_tf.pipelines.rows import (
    AnyRow,
    BadRow,
    KnownColumns,
    Part,
    TextRow,
    Wanted,
    chosen_columns,
    json_values,
    row_of,
)

# Rows that are looked at for the columns of a file whose rows may differ.
_LOOKED_AT = 1000
# Lines that a header may have, where its names hold line breaks.
_HEADER_LINES = 100
_CHUNK = 2**20


class Lines:
    """A text a line.

    Example:

    ```python
    Lines().parts("reviews.txt", Wanted(), 1024)
    ```
    """

    def parts(self, path: str, wanted: Wanted, rows: int) -> list[Part]:
        if flag := _column_flag(wanted):
            raise UserError(f"{flag}: {path} has no columns, each line is a text")
        return self._cut(path, rows, None, None)

    def read(self, part: Part) -> Iterator[AnyRow]:
        with _unpacked(part.path, part.start) as file:
            for number, line in enumerate(islice(file, part.rows), part.first):
                if not number:
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield self._row(number, line, part)

    def _row(self, number: int, line: bytes, part: Part) -> AnyRow:
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        return TextRow(number, None, text.decode("utf-8", "replace").encode())

    def _cut(
        self, path: str, rows: int, text: str | None, id: str | None
    ) -> list[Part]:
        starts = []
        count = end = 0
        with _unpacked(path) as file:
            for line in file:
                # A file that holds the mark alone has no lines.
                if end or line != codecs.BOM_UTF8:
                    if count % rows == 0:
                        starts.append(end)
                    count += 1
                end += len(line)
        return [
            Part(path, first, min(rows, count - first), start, (), text, id, None)
            for first, start in zip(range(0, count, rows), starts, strict=True)
        ]


class JsonLines(Lines):
    """A JSON object a line.

    Example:

    ```python
    JsonLines().parts("reviews.jsonl", Wanted(), 1024)
    ```
    """

    def parts(self, path: str, wanted: Wanted, rows: int) -> list[Part]:
        cut = self._cut(path, rows, None, None)
        if not cut:
            return []
        with _unpacked(path) as file:
            text, id = chosen_columns(path, _good_json(file), wanted.text, wanted.id)
        return [part._replace(text=text, id=id) for part in cut]

    def _row(self, number: int, line: bytes, part: Part) -> AnyRow:
        try:
            values = json_values(line)
        except ValueError as error:
            return BadRow(number, str(error))
        return row_of(number, values, KnownColumns(part.text, part.id, differ=True))


class Delimited:
    """Columns between commas or tabs, their names in the header.

    Example:

    ```python
    Delimited().parts("reviews.csv", Wanted(), 1024)
    ```
    """

    def parts(self, path: str, wanted: Wanted, rows: int) -> list[Part]:
        with _unpacked(path) as file:
            header = _header(file, path, wanted.quoting)
            if not header:
                return []
            names = _names(header, path, wanted.quoting)
            text, id = chosen_columns(path, iter([names]), wanted.text, wanted.id)
            whole = Part(
                path, 0, 0, sum(map(len, header)), header, text, id, wanted.quoting
            )
            found: list[Part] = []
            start = whole.start
            for number, (size, _) in enumerate(_delimited_rows(file, whole)):
                if number % rows == 0:
                    found.append(whole._replace(first=number, start=start))
                found[-1] = found[-1]._replace(rows=found[-1].rows + 1)
                start += size
        return found

    def read(self, part: Part) -> Iterator[AnyRow]:
        columns = KnownColumns(part.text, part.id, differ=False)
        with _unpacked(part.path, part.start) as file:
            rows = islice(_delimited_rows(file, part), part.rows)
            for number, (_, found) in enumerate(rows, part.first):
                if isinstance(found, str):
                    yield BadRow(number, found)
                else:
                    yield row_of(number, found.values, columns)


def _delimited_rows(file: IO[bytes], part: Part) -> Iterator[tuple[int, Record | str]]:
    """The rows from where the file stands: their bytes, and what is wrong with them.

    The header is read again above them, and again after each bad row.
    """
    form = file_format(suffixes_of(part.path)[0], quoting=part.quoting)
    form.layouts = _AllColumns()
    lines = _Pulled(file)
    while True:
        located = LocatedLines(part.path, chain(part.header, lines), errors="replace")
        try:
            for record in form.scan(located):
                blank = "expected a row, received a blank line"
                yield lines.take_all(), record if record.example else blank
            return
        except UserError as error:
            reason = str(error).removeprefix(located.place).removeprefix(": ")
            # A quotation mark that is never closed takes all lines behind it along.
            in_the_middle = isinstance(error.__context__, csv.Error)
        reason = re.sub(" in the row from line [0-9]+ on", "", reason)
        reason = reason.replace("data.quoting", "--quoting")
        yield lines.take_first() if in_the_middle else lines.take_all(), reason


class _Pulled:
    """Lines of which those that were not yet accounted for can be read again."""

    def __init__(self, lines: Iterator[bytes]):
        self._lines = iter(lines)
        self._pending: list[bytes] = []
        self._again: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        while True:
            line = self._again.pop() if self._again else next(self._lines, None)
            if line is None:
                return
            self._pending.append(line)
            yield line

    def take_all(self) -> int:
        """The bytes of all that was read since it was last asked for."""
        size = sum(map(len, self._pending))
        self._pending.clear()
        return size

    def take_first(self) -> int:
        """The bytes of the first line; those behind it are read again."""
        first, *others = self._pending
        self._again += reversed(others)
        self._pending.clear()
        return len(first)


class _AllColumns(Layouts):
    """Rows of any columns, looked at by their names later."""

    def of(self, names: tuple[str, ...]) -> Layout:
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the column {min(twice)!r} is there twice")
        return Layout(TEXT, names[:1])


def _header(file: IO[bytes], path: str, quoting: str | None) -> tuple[bytes, ...]:
    header: list[bytes] = []
    marks = 0
    for line in islice(file, _HEADER_LINES):
        header.append(line)
        marks += line.count(b'"')
        begins = header[0].removeprefix(codecs.BOM_UTF8)
        commas = suffixes_of(path)[0] == ".csv"
        is_quoted = quoting == QUOTED or (
            quoting is None and (commas or begins.startswith(b'"'))
        )
        # A name between quotation marks may hold line breaks.
        if marks % 2 == 0 or not is_quoted:
            break
    return tuple(header)


def _names(
    header: tuple[bytes, ...], path: str, quoting: str | None
) -> Mapping[str, Any]:
    """The columns that a header names."""
    columns = _HeaderColumns()
    form = file_format(suffixes_of(path)[0], quoting=quoting)
    form.layouts = columns
    lines = LocatedLines(path, header, errors="replace")
    next(iter(form.scan(lines)), None)
    return dict.fromkeys(columns.names)


class _HeaderColumns(_AllColumns):
    """Keeps the columns of a header."""

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()

    def of(self, names: tuple[str, ...]) -> Layout:
        self.names = names
        return super().of(names)


def _good_json(lines: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in islice(lines, _LOOKED_AT):
        try:
            yield json_values(line.removeprefix(codecs.BOM_UTF8))
        except ValueError:
            continue


def _column_flag(wanted: Wanted) -> str | None:
    return "--text" if wanted.text else "--id" if wanted.id else None


@contextmanager
def _unpacked(path: str, start: int = 0) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked, from a place on."""
    packing = suffixes_of(path)[1]
    if not packing and is_local(path):
        check_text(path)
    try:
        with open_bytes(path) as file:
            if not packing:
                file.seek(start)
                yield file
                return
            with _unpacker(file, packing) as unpacked:
                while start:
                    start -= len(unpacked.read(min(start, _CHUNK)))
                yield unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is cut short or damaged: {error}") from None


def _unpacker(file: IO[bytes], packing: str) -> Any:
    if packing == ".gz":
        return gzip.GzipFile(fileobj=file)
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file), "zstd"))
