"""The texts of a file that is to be embedded, one a row, in any format that trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import check_file
from simcse_tf.core.text_lines import LocatedLines, check_text
from simcse_tf.data.columns import NUMBERING, TEXT, TEXT_NAMES, Layout, Layouts
from simcse_tf.data.file_formats import SUFFIXES, file_format
from simcse_tf.data.files import PARQUET
from simcse_tf.data.parquet import parquet_unpacker
from simcse_tf.data.stored_files import StoredFile, decompression, suffixes_of
from simcse_tf.evaluation.text_files import words


class FileTexts:
    """The texts of a file, one a row, none left out.

    A `.csv`, `.tsv`, `.jsonl` or `.parquet` file gives one of its columns. Any other
    file is text, an empty line an empty text. With `.gz` or `.zst` behind its name it
    is unpacked, to a temporary file.

    Args:
        path: string. The file.
        column: Optional string. The column's name. Defaults to `None`: the only one,
            or the one named `text` or `sentence`.
        quoting: Optional string. As for `simcse_tf.data.file_formats.file_format`.
        errors: string. `"strict"` refuses what is not UTF-8; `"replace"` gives U+FFFD
            for it. Defaults to `"replace"`.

    Attributes:
        column: string. The column that is read, once a text was; `None` where there
            are none.

    Raises:
        UserError: If it cannot be read or unpacked.

    Example:

    ```python
    list(FileTexts("reviews.csv.gz", "body"))  # [b"I liked it.", ...]
    ```
    """

    def __init__(
        self,
        path: str,
        column: str | None = None,
        quoting: str | None = None,
        errors: str = "replace",
    ):
        self._path = path
        self._errors = errors
        self._quoting = quoting
        self._choice = _OneText(column)
        self._suffix, packing = suffixes_of(path)
        check_file(path)
        if self._suffix == PARQUET and packing:
            raise UserError(f"{path}: expected a .parquet file without {packing}")
        if column is not None and not self._has_columns:
            raise UserError(f"--column: {path} has no columns, each line is a text")
        unpack = decompression(packing)
        if self._suffix == PARQUET:
            unpack = parquet_unpacker(path, self._choice)
        self._unpacked = StoredFile(path, unpack) if unpack else None
        if unpack is None:
            check_text(path)

    @property
    def column(self) -> str | None:
        return self._choice.column if self._has_columns else None

    @property
    def _has_columns(self) -> bool:
        return self._suffix in (*SUFFIXES, PARQUET) and self._suffix != ".txt"

    def __iter__(self) -> Iterator[bytes]:
        """The texts from the first one on, as UTF-8.

        Raises:
            UserError: If a row is malformed, or may be none.
        """
        is_parquet = self._suffix == PARQUET
        lines = LocatedLines(
            self._path,
            self._unpacked.lines() if self._unpacked else None,
            unit="row" if is_parquet else "line",
            errors=self._errors,
        )
        texts = self._column(lines) if self._has_columns else _lines(lines)
        try:
            for text in texts:
                yield text.encode("utf-8", "surrogatepass")
        except UserError as error:
            # A config's key, to a command that has none.
            raise UserError(str(error).replace("data.quoting", "--quoting")) from None

    def _column(self, lines: LocatedLines) -> Iterator[str]:
        suffix = ".jsonl" if self._suffix == PARQUET else self._suffix
        form = file_format(suffix, quoting=self._quoting)
        form.layouts = self._choice
        for record in form.scan(lines):
            if record.example is None:
                # Some programs skip it, some read an empty text: rows would shift.
                raise lines.error("expected a row, received a blank line")
            yield record.example.texts[0]


class _OneText(Layouts):
    """Rows of which one column is read."""

    def __init__(self, column: str | None):
        super().__init__()
        self.column = column

    def of(self, names: tuple[str, ...]) -> Layout:
        if self.column is None:
            self.column = _text_column(names)
        if names.count(self.column) != 1:
            times = "twice" if self.column in names else "none"
            raise ValueError(
                f"expected one column {self.column!r}, received {times} among "
                f"{','.join(names)}"
            )
        return Layout(TEXT, (self.column,))


def _text_column(names: Sequence[str]) -> str:
    for candidates in (
        [name for name in names if name not in NUMBERING],
        [name for name in names if name in TEXT_NAMES],
    ):
        if len(candidates) == 1:
            return candidates[0]
    raise ValueError(
        "expected one column, or one named text or sentence, received "
        f"{','.join(names)}: --column says which one is read"
    )


def _lines(lines: LocatedLines) -> Iterator[str]:
    for line in lines:
        yield line.removesuffix("\n").removesuffix("\r")


def load_sentences(path: str) -> list[str]:
    """A file's texts with one space between words; blank ones are left out.

    Args:
        path: string. As for `FileTexts`.

    Raises:
        UserError: If it cannot be read, is not UTF-8, or holds no sentence.

    Example:

    ```python
    load_sentences("queries.txt")  # ["A man is playing a guitar.", ...]
    ```
    """
    texts = FileTexts(path, errors="strict")
    sentences = [words(text.decode("utf-8", "replace")) for text in texts]
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise UserError(f"{path} holds no sentence, expected one a line or a row")
    return sentences
