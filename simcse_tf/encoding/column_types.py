"""The types of metadata: one for a column, whatever its rows hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.encoding.records import Scalar

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["string", "int", "float", "bool"]
Metadata: TypeAlias = Mapping[str, Scalar]

# As programs write numbers; what has leading zeros is a code.
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?")
# Whole numbers that a float64 holds.
_EXACT = 2**53
_OF_PYTHON: dict[type, ColumnType] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
}


class ColumnTypes:
    """Finds the types that hold all values of some rows.

    Whole numbers and others together are `"float"`. Texts of which each is a number, in
    a file that has no types, are numbers. A column without a value has no type.

    Args:
        known: The types of the rows before.
        untyped: bool. Whether all values are texts, as in a CSV file; an empty one is
            then no number. Defaults to `False`.

    Attributes:
        types: The types by column.

    Example:

    ```python
    types = ColumnTypes({}, untyped=True)
    types.observe({"year": "1999", "zip": "01067"}, "row 1")
    types.types  # {"year": "int", "zip": "string"}
    ```
    """

    def __init__(self, known: Mapping[str, ColumnType], untyped: bool = False):
        self._known = dict(known)
        self._untyped = untyped
        self.types: dict[str, ColumnType] = dict(known)
        # Columns with whole numbers that no float64 holds.
        self._large: set[str] = set()

    def observe(self, metadata: Metadata, place: str) -> None:
        """Lets the types hold one more row's values.

        Args:
            metadata: The values.
            place: string. What a message calls the row.

        Raises:
            UserError: If no type holds a value and those before it.
        """
        for name, value in metadata.items():
            if value is None or (self._untyped and value == ""):
                continue
            before = self.types.get(name)
            if before == "string" and isinstance(value, str):
                continue
            new = self._type_of(value)
            if new == "int" and abs(int(value)) > _EXACT:
                self._large.add(name)
            if before not in (None, new):
                new = self._common(name, before, new, value, place)
            self.types[name] = new

    def converted(self, metadata: Metadata) -> dict[str, Scalar]:
        """A row's values, each of its column's type.

        Args:
            metadata: Values that were observed.

        Raises:
            ValueError: If they were not.
        """
        return {name: self._value(name, v) for name, v in metadata.items()}

    def _type_of(self, value: Scalar) -> ColumnType:
        if self._untyped and isinstance(value, str):
            if _INT.fullmatch(value):
                return "int"
            return "float" if _FLOAT.fullmatch(value) else "string"
        return _OF_PYTHON[type(value)]

    def _common(
        self,
        name: str,
        before: ColumnType | None,
        new: ColumnType,
        value: Scalar,
        place: str,
    ) -> ColumnType:
        if {before, new} == {"int", "float"} and name not in self._large:
            return "float"
        if self._untyped and name not in self._known:
            return "string"
        raise UserError(
            f"{place}: expected {before} in {name}, as in the rows before, received "
            f"{shown(value)}"
        )

    def _value(self, name: str, value: Scalar) -> Scalar:
        kind = self.types.get(name)
        if kind == "string" or value is None:
            return value
        if kind is None or value == "":
            return None
        return value if kind == "bool" else (int if kind == "int" else float)(value)


def arrow_type(kind: ColumnType) -> pa.DataType:
    """A column's type in Arrow and Parquet.

    Example:

    ```python
    arrow_type("float")  # double
    ```
    """
    import pyarrow as pa

    return {
        "string": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }[kind]
