"""The records of a file: a text with its id and what else its row says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened, shown
from simcse_tf.core.stored_files import suffixes_of
from simcse_tf.data.columns import TEXT, Layout, Layouts
from simcse_tf.encoding.rows import FileRows, Row, has_columns, text_column

Scalar: TypeAlias = str | int | float | bool | None

# Columns that hold ids where none is named; BEIR has the second one.
ID_NAMES = ("id", "_id")
# What pandas numbers rows with, no data of the user's.
_ROW_NUMBERS = ("", "Unnamed: 0", "__index_level_0__")
_INT64 = range(-(2**63), 2**63)


class Record(NamedTuple):
    """A text with its id.

    Attributes:
        id: string. Not empty.
        text: bytes. UTF-8.
        metadata: The other values of its row, by column.

    Example:

    ```python
    Record("7", b"I liked it.", {"stars": 5})
    ```
    """

    id: str
    text: bytes
    metadata: dict[str, Scalar]


class FileRecords:
    """The records of a file from the first one on, as often as it is iterated.

    Args:
        path: string. The file, as for `simcse_tf.encoding.rows.FileRows`.
        text: Optional string. The column of the texts. Defaults to `None`: the only
            one besides ids and metadata, or the one named `text` or `sentence`.
        id: Optional string. The column of the ids: texts or whole numbers. Defaults
            to `None`: the one named `id` or `_id`, or else a row's number counted from
            0.
        metadata: Optional sequence of strings. The columns that come along: texts,
            numbers, truth values or nothing. Those of `.csv` and `.tsv` are texts.
            Defaults to `None`: all others.
        quoting: Optional string. As for `simcse_tf.data.file_formats.file_format`.
        flags: The flags that name the text's column and the id's, for messages.

    Raises:
        UserError: If it cannot be read, unpacked or understood; where it is iterated,
            also if a row is malformed.

    Example:

    ```python
    next(iter(FileRecords("reviews.jsonl")))
    # Record("7", b"I liked it.", {"stars": 5})
    ```
    """

    def __init__(
        self,
        path: str,
        *,
        text: str | None = None,
        id: str | None = None,
        metadata: Sequence[str] | None = None,
        quoting: str | None = None,
        flags: tuple[str, str] = ("--text", "--id"),
    ):
        self._path = path
        named = {flags[0]: text, flags[1]: id, "--metadata": metadata}
        for flag, name in named.items():
            if name and not has_columns(path):
                raise UserError(f"{flag}: {path} has no columns, each line is a text")
        differ = suffixes_of(path)[0] == ".jsonl"
        self._columns = RecordColumns(text, id, metadata, differ, flags)
        self._rows = FileRows(path, self._columns, quoting)
        # What the columns are is known once a row was read.
        next(iter(self), None)

    @property
    def ids_given(self) -> bool:
        """Whether the ids stand in the file."""
        return self._columns.id is not None

    @property
    def untyped(self) -> bool:
        """Whether the file's values are all texts, as in a `.csv` file."""
        return suffixes_of(self._path)[0] in (".csv", ".tsv")

    @property
    def description(self) -> str:
        """The columns as they are understood; empty for a file without columns."""
        return self._columns.description() if self._rows.has_columns else ""

    def __iter__(self) -> Iterator[Record]:
        columns = self._columns
        for number, row in enumerate(self._rows):
            try:
                id = str(number) if columns.id is None else columns.id_of(row)
                text = row.text.encode("utf-8", "surrogatepass")
                yield Record(id, text, columns.metadata_of(row))
            except UserError:
                raise
            except ValueError as error:
                raise UserError(f"{row.place}: {error}") from None
        if never := columns.never_found():
            raise UserError(
                f"--metadata: no row of {self._path} has a column {never!r}"
            )


class RecordColumns(Layouts):
    """Which columns are the text, the id and metadata.

    Args:
        text: As for `FileRecords`.
        id: As for `FileRecords`.
        metadata: As for `FileRecords`.
        differ: bool. Whether a row may lack columns that others have.
        flags: As for `FileRecords`.

    Example:

    ```python
    columns = RecordColumns("body", None, (), differ=False)
    columns.of(("_id", "body"))
    columns.id  # "_id"
    ```
    """

    def __init__(
        self,
        text: str | None,
        id: str | None,
        metadata: Sequence[str] | None,
        differ: bool,
        flags: tuple[str, str] = ("--text", "--id"),
    ):
        super().__init__()
        self._flags = flags
        self.text = text
        self.id = id
        self._metadata = metadata
        self._differ = differ
        self._is_known = False
        self._found: set[str] = set()
        self._layout = _ReadWhole(TEXT, TEXT)
        self._names: tuple[str, ...] | None = None

    def of(self, names: tuple[str, ...]) -> Layout:
        if names == self._names:
            return self._layout
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the column {min(twice)!r} is there twice")
        if not self._is_known:
            self._choose(names)
        assert self.text is not None
        wanted = [self.text] if self.id is None else [self.text, self.id]
        if not self._differ:
            wanted += self._metadata or ()
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(
                f"expected a column {missing[0]!r}, received "
                f"{shortened(','.join(names)) or 'none'}"
            )
        read = self._metadata_among(names)
        if self.id is not None:
            read = (self.id, *read)
        self._layout = _ReadWhole(TEXT, (self.text,), ignored=read)
        self._names = names
        self._found.update(names)
        return self._layout

    def id_of(self, row: Row) -> str:
        """A row's id."""
        assert self.id is not None
        value = row.values[self.id]
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value:
            raise ValueError(
                f"expected a text or a whole number in {self.id}, which is the id, "
                f"received {shown(value)}"
            )
        if _as_unicode(value) != value:
            raise ValueError(f"expected Unicode in {self.id}, received {shown(value)}")
        return value

    def metadata_of(self, row: Row) -> dict[str, Scalar]:
        """A row's metadata."""
        values = row.values
        names = self._metadata
        if names is None:
            names = self._metadata_among(tuple(values))
        return {name: _scalar(name, values.get(name)) for name in names}

    def never_found(self) -> str | None:
        """A column that was asked for and that no row had."""
        names = self._metadata if self._names else None
        return next((name for name in names or () if name not in self._found), None)

    def description(self) -> str:
        """The columns as they are understood."""
        metadata = self._metadata_among(self._names or ())
        return ", ".join(
            [
                f"text: {self.text}",
                f"id: {'the row, counted from 0' if self.id is None else self.id}",
                f"metadata: {shortened(' '.join(metadata)) or 'none'}",
            ]
        )

    def _choose(self, names: tuple[str, ...]) -> None:
        if self.id is None:
            found = [name for name in ID_NAMES if name in names and name != self.text]
            if len(found) > 1:
                raise ValueError(
                    f"expected one column of ids, received {' and '.join(found)}: "
                    f"{self._flags[1]} says which one is read"
                )
            self.id = found[0] if found else None
        if self.text is None:
            others = {self.id, *(self._metadata or ())}
            free = [name for name in names if name not in others]
            self.text = text_column(free, self._flags[0])
        self._is_known = True

    def _metadata_among(self, names: Sequence[str]) -> tuple[str, ...]:
        if self._metadata is not None:
            return tuple(name for name in self._metadata if name in names)
        own = (self.text, self.id, *_ROW_NUMBERS)
        return tuple(name for name in names if name not in own)


class _ReadWhole(Layout):
    """A layout whose example leaves columns out that are read nevertheless."""

    @property
    def used(self) -> tuple[str, ...]:
        return self.names + self.ignored


def _scalar(name: str, value: Any) -> Scalar:
    if isinstance(value, str):
        return _as_unicode(value)
    if isinstance(value, bool | float | None) or (
        isinstance(value, int) and value in _INT64
    ):
        return value
    raise ValueError(
        f"expected a text, a number of 64 bits, true, false or null in {name}, "
        f"received {shown(value)}: --metadata names the columns that come along"
    )


def _as_unicode(text: str) -> str:
    r"""Text without halves of surrogate pairs, such as JSON's `\ud83d` alone."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
