r"""Reading text files line by line.

Only "\n" ends a line, and a "\r" before it belongs to the end. `str.splitlines` and
files opened as text also cut at characters that occur inside sentences, which would
shift sentences against their labels.
"""

import codecs
from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from typing import NamedTuple, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import check_file

AnyPath: TypeAlias = str | PathLike[str]

# What files begin with that are often taken for text, or hold text of another encoding.
_NO_TEXT = {
    b"\x1f\x8b": "gzip data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"PAR1": "Parquet data",
    b"PK\x03\x04": "ZIP data, such as a spreadsheet",
    codecs.BOM_UTF16_LE: "UTF-16 text",
    codecs.BOM_UTF16_BE: "UTF-16 text",
}


def check_text(path: AnyPath) -> None:
    """Checks that a file does not begin as other files do than UTF-8 text.

    A line may hold any bytes, so that they would pass for lines.

    Args:
        path: The file.

    Raises:
        UserError: If it does, or cannot be read.

    Example:

    ```python
    check_text("sentences.txt")
    ```
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            begins = file.read(max(map(len, _NO_TEXT)))
    except OSError as error:
        raise UserError(f"cannot read {fspath(path)}: {error.strerror}") from error
    for magic, kind in _NO_TEXT.items():
        if begins.startswith(magic):
            raise UserError(f"{fspath(path)} holds {kind}: expected UTF-8 text")


def read_raw_lines(path: AnyPath) -> Iterator[bytes]:
    """The lines of a file as they are in it, without line ends.

    Args:
        path: The file. Its lines may be in any encoding or none.

    Yields:
        bytes. A byte order mark stays a part of the first line.

    Raises:
        UserError: If it cannot be read.

    Example:

    ```python
    list(read_raw_lines("sentences.txt"))  # [b"A man plays.", b"A dog runs."]
    ```
    """
    for line in read_whole_lines(path):
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def read_whole_lines(path: AnyPath) -> Iterator[bytes]:
    """The lines of a file as they are in it, with their ends.

    Args:
        path: The file.

    Yields:
        bytes.

    Raises:
        UserError: If it cannot be read, or might never give its first byte, as a pipe.

    Example:

    ```python
    list(read_whole_lines("sentences.txt"))  # [b"A man plays.\n", b"A dog runs.\n"]
    ```
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            yield from file
    except OSError as error:
        raise UserError(f"cannot read {fspath(path)}: {error.strerror}") from error


def read_lines(path: AnyPath, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file without line ends and byte order mark.

    Args:
        path: The file.
        encoding: string. Defaults to `"utf-8"`.

    Yields:
        string.

    Raises:
        UserError: If the file cannot be read, or a line is not of that encoding; the
            message names the file and the line.

    Example:

    ```python
    list(read_lines("sentences.txt"))  # ["A man plays.", "A dog runs."]
    ```
    """
    for line in _located_lines(read_whole_lines(path)):
        try:
            yield line.content.removesuffix(b"\n").removesuffix(b"\r").decode(encoding)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{fspath(path)}, line {line.number}: not {encoding.upper()} ({error})"
            ) from error


class LocatedLines:
    """The lines of a UTF-8 file with their line ends, and where the last one stands.

    The lines come without byte order mark. Their ends stay, because a CSV reader needs
    those inside of a quoted field.

    Args:
        path: The file.
        lines: Optional iterable of bytes. The file's lines, where they are not to be
            read from `path`. Defaults to `None`.
        unit: string. What a message calls a line. Defaults to `"line"`.
        errors: string. `"strict"` refuses what is not UTF-8; `"replace"` gives U+FFFD
            for it. Defaults to `"strict"`.

    Attributes:
        number: int. The last line given, counted from 1.
        start: int. The first byte of the last line given.
        end: int. The byte after its line end.

    Example:

    ```python
    lines = LocatedLines("sentences.txt")
    places = [(lines.start, lines.end) for _ in lines]  # [(0, 13), (13, 25)]
    ```
    """

    def __init__(
        self,
        path: AnyPath,
        lines: Iterable[bytes] | None = None,
        unit: str = "line",
        errors: str = "strict",
    ):
        self._path = path
        self._lines = lines
        self._errors = errors
        self.unit = unit
        self.number = self.start = self.end = 0

    def __iter__(self) -> Iterator[str]:
        """The lines from the first one on.

        Raises:
            UserError: If the file cannot be read, or a line is not UTF-8; the message
                names the file and the line.
        """
        lines = read_whole_lines(self._path) if self._lines is None else self._lines
        for line in _located_lines(lines):
            self.number, self.start, self.end = line.number, line.start, line.end
            try:
                yield line.content.decode("utf-8", self._errors)
            except UnicodeDecodeError as error:
                raise self.error(
                    f"not valid UTF-8 ({error.reason}, byte {error.start + 1})"
                ) from None

    @property
    def place(self) -> str:
        """The file and the last line given, as a message names them."""
        return f"{fspath(self._path)}, {self.unit} {self.number}"

    def error(self, message: str) -> UserError:
        """A `UserError` that names the file and the last line given."""
        return UserError(f"{self.place}: {message}")


class _Line(NamedTuple):
    number: int
    start: int
    end: int
    content: bytes


def _located_lines(lines: Iterable[bytes]) -> Iterator[_Line]:
    """Lines with their ends, numbers and places, without byte order mark."""
    end = 0
    for number, line in enumerate(lines, start=1):
        start, end = end, end + len(line)
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            start = len(codecs.BOM_UTF8)
            line = line[start:]
        # A file that holds the mark alone has no lines.
        if line:
            yield _Line(number, start, end, line)
