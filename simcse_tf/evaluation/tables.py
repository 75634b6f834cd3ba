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
    lines = [_line("", [labels[column] for column in columns], margin)]
    for name, cells in rows:
        texts = [_text(cells.get(column, "-")) for column in columns]
        lines.append(_line(name, texts, margin))
    return "\n".join(lines)


def _text(cell: float | str) -> str:
    return cell if isinstance(cell, str) else f"{cell:.2f}"


def _line(name: str, cells: Sequence[str], margin: int) -> str:
    return name.ljust(margin) + "".join(cell.rjust(8) for cell in cells)
