"""The texts of a file that is to be embedded, one a row, in any format that trains."""

from __future__ import annotations

from collections.abc import Iterator

from simcse_tf.core.errors import UserError
from simcse_tf.data.columns import TEXT, Layout, Layouts
from simcse_tf.encoding.rows import FileRows, has_columns, text_column
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
        self._choice = _OneText(column)
        if column is not None and not has_columns(path):
            raise UserError(f"--column: {path} has no columns, each line is a text")
        self._rows = FileRows(path, self._choice, quoting, errors)

    @property
    def column(self) -> str | None:
        return self._choice.column if self._rows.has_columns else None

    def __iter__(self) -> Iterator[bytes]:
        """The texts from the first one on, as UTF-8.

        Raises:
            UserError: If a row is malformed, or may be none.
        """
        for row in self._rows:
            yield row.text.encode("utf-8", "surrogatepass")


class _OneText(Layouts):
    """Rows of which one column is read."""

    def __init__(self, column: str | None):
        super().__init__()
        self.column = column

    def of(self, names: tuple[str, ...]) -> Layout:
        if self.column is None:
            self.column = text_column(names)
        if names.count(self.column) != 1:
            times = "twice" if self.column in names else "none"
            raise ValueError(
                f"expected one column {self.column!r}, received {times} among "
                f"{','.join(names)}"
            )
        return Layout(TEXT, (self.column,))


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
