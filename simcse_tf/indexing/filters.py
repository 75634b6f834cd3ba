"""Conditions on an index' metadata, such as `year >= 2020 and lang = "de"`.

    condition  = comparison { ("and" | ",") comparison }
    comparison = column ("=" | "!=" | "<" | "<=" | ">" | ">=") value
               | column ["not"] "in" "(" value { "," value } ")"
               | column "is" ["not"] "null"
    column     = a word of letters, digits, `_`, `.` and `-`, or any name in backquotes
    value      = a text in double or single quotes as in JSON, a number, true or false

A row without a value fulfils no condition on it but `is null`, as in SQL.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown

if TYPE_CHECKING:
    import pyarrow as pa

    from simcse_tf.encoding.column_types import ColumnType
    from simcse_tf.indexing.index import Index

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.-]))
    | (?P<name>`[^`]+`|[^\W\d][\w.-]*)
    | (?P<sign><=|>=|!=|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.DOTALL,
)
# How each sign is called in `pyarrow.compute`.
_COMPARED = {
    "=": "equal",
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_EQUALITIES = ("=", "==", "!=", "in", "not in", "null", "not null")
_EXAMPLE = 'such as: year >= 2020 and lang = "de"'


class Condition(NamedTuple):
    """What a column's value must be.

    Attributes:
        column: string.
        sign: string. A comparison, `"in"`, `"not in"`, `"null"` or `"not null"`.
        values: What it is compared with.

    Example:

    ```python
    Condition("year", ">=", [2020])
    ```
    """

    column: str
    sign: str
    values: list[Any]


def parse(where: str, columns: Mapping[str, ColumnType]) -> list[Condition]:
    """Reads conditions that must all hold.

    Args:
        where: string. See the module.
        columns: The types of the columns that there are.

    Returns:
        At least one `Condition`, each with values of its column's type.

    Raises:
        UserError: If it is not understood, a column is unknown or of another type.

    Example:

    ```python
    parse("year >= 2020", {"year": "int"})  # [Condition("year", ">=", [2020])]
    ```
    """
    reader = _Reader(where)
    found = [_checked(reader.condition(), columns)]
    while reader.take("and", ","):
        found.append(_checked(reader.condition(), columns))
    if not reader.ended:
        raise reader.mistake("and")
    return found


def matching(index: Index, where: str) -> np.ndarray:
    """Which rows of an index fulfil conditions.

    Args:
        index: The index.
        where: string. See the module.

    Returns:
        bool array `(rows,)`; removed rows are compared too.

    Raises:
        UserError: As `parse`.

    Example:

    ```python
    matching(index, 'lang = "de"').sum()  # 120
    ```
    """
    conditions = parse(where, index.manifest.columns)
    names = list(dict.fromkeys(condition.column for condition in conditions))
    mask = np.zeros(index.rows, bool)
    for first, batch in index.columns(names):
        fulfilled = np.ones(batch.num_rows, bool)
        for condition in conditions:
            fulfilled &= _fulfilled(condition, batch)
        mask[first : first + batch.num_rows] = fulfilled
    return mask


def _fulfilled(condition: Condition, batch: pa.RecordBatch) -> np.ndarray | bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if condition.column not in batch.schema.names:
        # Rows from before the column was there.
        return condition.sign == "null"
    column = batch.column(condition.column)
    if condition.sign in ("null", "not null"):
        found = pc.is_null(column)
        return np.asarray(found if condition.sign == "null" else pc.invert(found))
    if condition.sign in ("in", "not in"):
        # A whole number of a column with fractions is compared as one.
        values = _column_of(condition.values)
        if pa.types.is_integer(column.type) and pa.types.is_floating(values.type):
            values = values.filter(pc.equal(values, pc.round(values)))
        found = pc.is_in(column, value_set=values.cast(column.type))
        if condition.sign == "not in":
            found = pc.and_kleene(pc.invert(found), pc.is_valid(column))
        return np.asarray(found)
    compare = getattr(pc, _COMPARED[condition.sign])
    return np.asarray(
        pc.fill_null(compare(column, pa.scalar(condition.values[0])), False)
    )


class _Reader:
    """Conditions, word by word."""

    def __init__(self, where: str):
        self._where = where
        self._tokens = list(_tokens(where))
        self._next = 0

    @property
    def ended(self) -> bool:
        return self._next == len(self._tokens)

    def condition(self) -> Condition:
        column = self._column()
        if self.take("is"):
            sign = "not null" if self.take("not") else "null"
            self._expect("null")
            return Condition(column, sign, [])
        sign = "not in" if self.take("not") else "in"
        if sign == "not in" or self._sees("in"):
            self._expect("in")
            self._expect("(")
            values = [self._value()]
            while self.take(","):
                values.append(self._value())
            self._expect(")")
            return Condition(column, sign, values)
        sign = self._expect(*_COMPARED)
        return Condition(column, sign, [self._value()])

    def take(self, *words: str) -> str | None:
        """The next word if it is one of these, in any case."""
        if not self._sees(*words):
            return None
        self._next += 1
        return self._tokens[self._next - 1][1].lower()

    def mistake(self, *expected: str) -> UserError:
        found = "its end" if self.ended else shown(self._tokens[self._next][1])
        return UserError(
            f"where: expected {' or '.join(expected)}, received {found} in "
            f"{shown(self._where)}; {_EXAMPLE}"
        )

    def _sees(self, *words: str) -> bool:
        if self.ended:
            return False
        kind, text = self._tokens[self._next]
        return kind != "quoted" and text.lower() in words

    def _expect(self, *words: str) -> str:
        found = self.take(*words)
        if found is None:
            raise self.mistake(*words)
        return found

    def _column(self) -> str:
        if self.ended or self._tokens[self._next][0] != "name":
            raise self.mistake("a column")
        self._next += 1
        return self._tokens[self._next - 1][1].strip("`")

    def _value(self) -> Any:
        if not self.ended:
            kind, text = self._tokens[self._next]
            if kind in ("quoted", "number") or text.lower() in ("true", "false"):
                self._next += 1
                return _value_of(kind, text)
        raise self.mistake("a number", "a text in quotes", "true", "false")


def _tokens(where: str) -> Iterator[tuple[str, str]]:
    place, text = 0, where.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise UserError(
                f"where: cannot read {shown(text[place:].strip())} in {shown(where)}; "
                f"{_EXAMPLE}"
            )
        place = found.end()
        assert found.lastgroup is not None
        yield found.lastgroup, found[found.lastgroup]


def _value_of(kind: str, text: str) -> Any:
    if kind == "quoted":
        if text[0] == "'":
            inside = text[1:-1].replace("\\'", "'")
            text = '"' + re.sub(r'(\\.)|"', lambda m: m[1] or '\\"', inside) + '"'
        try:
            return json.loads(text, strict=False)
        except ValueError:
            raise UserError(
                f"where: expected a text with JSON's escapes, received {shown(text)}"
            ) from None
    if kind == "number":
        return int(text) if re.fullmatch(r"[+-]?\d{1,19}", text) else float(text)
    return text.lower() == "true"


def _checked(condition: Condition, columns: Mapping[str, ColumnType]) -> Condition:
    name, sign, values = condition
    if name not in columns:
        known = ", ".join(columns) or "none"
        raise UserError(
            f"where: there is no column {shown(name)}; the index has: {known}"
        )
    kind = columns[name]
    for value in values:
        if not _fits(value, kind):
            raise UserError(
                f"where: {name} is of type {kind}, received {shown(value)}"
                + (": a text stands in quotes" if kind == "string" else "")
            )
    if kind == "bool" and sign not in _EQUALITIES:
        raise UserError(f"where: {name} is true or false, and nothing is {sign} that")
    if kind == "float":
        values = [float(value) for value in values]
    return condition._replace(values=values)


def _fits(value: Any, kind: ColumnType) -> bool:
    if kind in ("int", "float"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and -(2.0**63) <= value < 2.0**63
    return isinstance(value, {"string": str, "bool": bool}[kind])


def _column_of(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    if {type(value) for value in values} == {int, float}:
        values = [float(value) for value in values]
    return pa.array(values)
