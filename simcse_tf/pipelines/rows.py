"""Rows of a part of a file, good and bad: what each says, and why it says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import parse_json
from simcse_tf.encoding.records import RecordColumns
from simcse_tf.encoding.rows import Row


class TextRow(NamedTuple):
    """A row that can be embedded.

    Attributes:
        number: int. Its place in the file, counted from 0.
        id: Optional string. What the file calls it.
        text: bytes. As `encode` reads it.

    Example:

    ```python
    TextRow(7, "b-12", b"I liked it.")
    ```
    """

    number: int
    id: str | None
    text: bytes


class BadRow(NamedTuple):
    """A row that cannot be embedded.

    Attributes:
        number: int. Its place in the file, counted from 0.
        reason: string. What was expected, and what was there.

    Example:

    ```python
    BadRow(8, "expected a JSON object")
    ```
    """

    number: int
    reason: str


AnyRow: TypeAlias = TextRow | BadRow


class Part(NamedTuple):
    """Some rows of a file, one after the other.

    Attributes:
        path: string. The file.
        first: int. The first row.
        rows: int. How many there are.
        start: int. Where the first one begins, in bytes of what the file unpacks to.
            0 where rows are found by their numbers.
        header: The lines above all rows.
        text: Optional string. The column of the texts.
        id: Optional string. The column of the ids.
        quoting: Optional string. As for `simcse_tf.data.file_formats.file_format`.

    Example:

    ```python
    Part("reviews.jsonl", 0, 1024, 0, (), "body", None, None)
    ```
    """

    path: str
    first: int
    rows: int
    start: int
    header: tuple[bytes, ...]
    text: str | None
    id: str | None
    quoting: str | None


class Wanted(NamedTuple):
    """What a user said of the files.

    Attributes:
        text: Optional string. The column of the texts.
        id: Optional string. The column of the ids.
        quoting: Optional string. Of `.csv` and `.tsv` files.

    Example:

    ```python
    Wanted(text="body")
    ```
    """

    text: str | None = None
    id: str | None = None
    quoting: str | None = None


class KnownColumns(RecordColumns):
    """The columns of a part of a file: those that the whole file has.

    Args:
        text: The column of the texts.
        id: Optional. The column of the ids. `None`: rows have none, also where one has
            a column of such a name.
        differ: As for `RecordColumns`.

    Example:

    ```python
    KnownColumns("body", None, differ=True)
    ```
    """

    def __init__(self, text: str | None, id: str | None, differ: bool):
        super().__init__(text, id, (), differ)

    def _choose(self, names: tuple[str, ...]) -> None:
        # A later row must not change what the first ones said.
        pass


def row_of(number: int, values: Mapping[str, Any], columns: RecordColumns) -> AnyRow:
    """What a row's values say.

    Args:
        number: int. The row.
        values: By column.
        columns: Which of them are read.

    Example:

    ```python
    row_of(0, {"text": 5}, columns).reason
    # "expected a string in text, received 5"
    ```
    """
    try:
        [text] = columns.of(tuple(values)).example(values).texts
        # `encode` takes it for an empty text, and has no place to say that it did.
        if columns.text is not None and values[columns.text] is None:
            raise ValueError(f"expected a string in {columns.text}, received null")
        id = None if columns.id is None else columns.id_of(Row("", values, ""))
    except ValueError as error:
        return BadRow(number, str(error))
    return TextRow(number, id, text.encode("utf-8", "surrogatepass"))


def json_values(line: bytes) -> Mapping[str, Any]:
    """The values of a line that holds a JSON object.

    Raises:
        ValueError: If it does not.

    Example:

    ```python
    json_values(b'{"text": "A man plays."}')  # {"text": "A man plays."}
    ```
    """
    text = line.decode("utf-8", "replace")
    if not text.strip():
        raise ValueError("expected a JSON object, received a blank line")
    values = parse_json(text, "the row", half_pairs=True)
    if not isinstance(values, dict):
        raise UserError("expected a JSON object")
    return values


def chosen_columns(
    path: str,
    rows: Iterator[Mapping[str, Any]],
    text: str | None,
    id: str | None,
) -> tuple[str | None, str | None]:
    """Which columns are texts and ids, as the first row says that can.

    Args:
        path: string. What a message calls the file.
        rows: The values of its rows.
        text: Optional string. The column of the texts, where it is known.
        id: Optional string. The column of the ids, where it is known.

    Raises:
        UserError: If no row says it.

    Example:

    ```python
    chosen_columns("a.jsonl", iter([{"_id": "7", "text": "It rains."}]), None, None)
    # ("text", "_id")
    ```
    """
    reason = "it has no rows"
    for values in rows:
        columns = RecordColumns(text, id, (), differ=True)
        try:
            columns.of(tuple(values))
        except ValueError as error:
            reason = str(error)
        else:
            return columns.text, columns.id
    raise UserError(f"{path}: {reason}")
