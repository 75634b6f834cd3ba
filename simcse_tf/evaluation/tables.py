"""Tables of scores as text: a column a task, a line a model."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Row: TypeAlias = tuple[str, Mapping[str, float | str]]


def format_rows(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    """Aligns named rows under the labels of the columns that they have.

    Args:
        rows: Each row's name, and its cells by column: numbers, which get two
            decimals, or text. Where it lacks a cell the table has a dash.
        labels: The heading of each column by its name, in the table's order.

    Returns:
        Lines of equal width, without a final newline.

    Example:

    ```python
    print(format_rows([("mine", {"avg": 81.57})], {"avg": "Avg."}))
    ```
    """
    present = set().union(*(cells for _, cells in rows))
    columns = [column for column in labels if column in present]
    margin = max((len(name) for name, _ in rows), default=0)
    table = [("", [labels[column] for column in columns])]
    for name, cells in rows:
        table.append((name, [_text(cells.get(column, "-")) for column in columns]))
    cells_by_column = zip(*(texts for _, texts in table), strict=True)
    widths = [max(8, 2 + max(map(len, texts))) for texts in cells_by_column]
    return "\n".join(_line(name, texts, margin, widths) for name, texts in table)


def _text(cell: float | str) -> str:
    return cell if isinstance(cell, str) else f"{cell:.2f}"


def _line(name: str, cells: Sequence[str], margin: int, widths: Sequence[int]) -> str:
    padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
    return name.ljust(margin) + "".join(padded)
