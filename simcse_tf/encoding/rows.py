"""The rows of a file of texts, none left out, in any format that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.core.parquet_rows import PARQUET
from simcse_tf.core.row_files import RowFile
from simcse_tf.core.stored_files import suffixes_of
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.columns import NUMBERING, TEXT_NAMES, Layouts
from simcse_tf.data.file_formats import SUFFIXES, file_format


class Row(NamedTuple):
    """One row.

    Attributes:
        text: string. Its text.
        values: Its values by column; none of a file without columns.
        place: string. The file and the row, as a message names them.

    Example:

    ```python
    Row("I liked it.", {"body": "I liked it.", "stars": "5"}, "reviews.csv, line 2")
    ```
    """

    text: str
    values: Mapping[str, Any]
    place: str


class FileRows:
    """The rows of a file from the first one on, as often as it is iterated.

    A `.csv`, `.tsv`, `.jsonl` or `.parquet` file has columns. Any other file is text,
    an empty line an empty text. With `.gz` or `.zst` behind its name it is unpacked,
    to a temporary file.

    Args:
        path: string. The file.
        layouts: Says which column is the text, and which others are read.
        quoting: Optional string. As for `simcse_tf.data.file_formats.file_format`.
        errors: string. `"strict"` refuses what is not UTF-8; `"replace"` gives U+FFFD
            for it. Defaults to `"replace"`.

    Attributes:
        has_columns: bool. Whether the file's rows have columns.

    Raises:
        UserError: If it cannot be read or unpacked; where it is iterated, also if a
            row is malformed, or may be none.

    Example:

    ```python
    [row.text for row in FileRows("reviews.csv.gz", layouts)]  # ["I liked it.", ...]
    ```
    """

    def __init__(
        self,
        path: str,
        layouts: Layouts,
        quoting: str | None = None,
        errors: str = "replace",
    ):
        self._layouts = layouts
        self._quoting = quoting
        self._errors = errors
        self.has_columns = has_columns(path)
        self._file = RowFile(path, lambda names: layouts.of(names).used)

    def __iter__(self) -> Iterator[Row]:
        lines = self._file.lines(self._errors)
        try:
            yield from self._of_columns(lines) if self.has_columns else _plain(lines)
        except UserError as error:
            # A config's key, to a command that has none.
            raise UserError(str(error).replace("data.quoting", "--quoting")) from None

    def _of_columns(self, lines: LocatedLines) -> Iterator[Row]:
        form = file_format(self._file.suffix, quoting=self._quoting)
        form.layouts = self._layouts
        for record in form.scan(lines):
            if record.example is None:
                # Some programs skip it, some read an empty text: rows would shift.
                raise lines.error("expected a row, received a blank line")
            yield Row(record.example.texts[0], record.values, lines.place)


def has_columns(path: str) -> bool:
    """Whether the rows of a file have columns, by the file's name.

    Example:

    ```python
    has_columns("reviews.csv.gz")  # True
    ```
    """
    suffix, _ = suffixes_of(path)
    return suffix in (*SUFFIXES, PARQUET) and suffix != ".txt"


def text_column(names: Sequence[str], flag: str = "--column") -> str:
    """The column that is the text, where none was named.

    Args:
        names: The columns.
        flag: string. The flag that names one, for the message.

    Raises:
        ValueError: If that cannot be said.

    Example:

    ```python
    text_column(["id", "text", "stars"])  # "text"
    ```
    """
    for candidates in (
        [name for name in names if name not in NUMBERING],
        [name for name in names if name in TEXT_NAMES],
    ):
        if len(candidates) == 1:
            return candidates[0]
    raise ValueError(
        "expected one column, or one named text or sentence, received "
        f"{','.join(names)}: {flag} says which one is read"
    )


def _plain(lines: LocatedLines) -> Iterator[Row]:
    for line in lines:
        yield Row(line.removesuffix("\n").removesuffix("\r"), {}, lines.place)
