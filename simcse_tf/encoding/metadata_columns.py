"""The types of metadata columns, from the values of all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.encoding.records import Scalar

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
}
# Whole numbers that a float64 holds exactly.
_EXACT = 2**53


class MetadataColumns:
    """Finds one type for each column.

    Whole numbers and others together are float64, where that changes none. Rows
    without a value, or without the column, fit every type; a column without any value
    is one of texts.

    Args:
        names: The columns that are known from the start, in their order.

    Example:

    ```python
    columns = MetadataColumns()
    columns.add({"stars": 5}, 1)
    columns.add({"stars": 4.5, "lang": "en"}, 2)
    columns.fields()  # stars: double, lang: string
    ```
    """

    def __init__(self, names: tuple[str, ...] = ()):
        # The first row of each kind of value, by the column.
        self._seen: dict[str, dict[type, int]] = {name: {} for name in names}
        self._large: dict[str, int] = {}

    def add(self, values: Mapping[str, Scalar], number: int) -> None:
        """Takes note of a row.

        Args:
            values: Its metadata.
            number: int. What messages call the row.
        """
        for name, value in values.items():
            kinds = self._seen.setdefault(name, {})
            if value is None:
                continue
            kinds.setdefault(type(value), number)
            if type(value) is int and abs(value) > _EXACT:
                self._large.setdefault(name, number)

    def fields(self) -> list[pa.Field]:
        """The columns with their types, in the order in which they were seen.

        Raises:
            UserError: If a column's values have no type in common.
        """
        import pyarrow as pa

        types = {
            str: pa.string(),
            bool: pa.bool_(),
            int: pa.int64(),
            float: pa.float64(),
        }
        return [
            pa.field(name, types[self._type(name, kinds)])
            for name, kinds in self._seen.items()
        ]

    def _type(self, name: str, kinds: dict[type, int]) -> type:
        if kinds.keys() == {int, float}:
            if name not in self._large:
                return float
            kinds = {int: self._large[name], float: kinds[float]}
        if len(kinds) > 1:
            (one, row), (other, other_row), *_ = kinds.items()
            raise UserError(
                f"--metadata: expected values of one type in the column {shown(name)}, "
                f"received {_KINDS[one]} in row {row} and {_KINDS[other]} in row "
                f"{other_row}, counted from 1"
            )
        return next(iter(kinds), str)
