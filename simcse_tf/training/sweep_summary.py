"""The scores of a sweep: a table and a plot of its settings over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shown, write_json
from simcse_tf.core.printing import one_line
from simcse_tf.training.run_directory import numbers_in
from simcse_tf.training.sweep_plan import SweepRun

# A number a seed, by setting and column.
Table: TypeAlias = Mapping[str, Mapping[str, Sequence[float]]]

_LAST_COLUMNS = ("avg dev", "avg test")


def summarize(runs: Sequence[SweepRun]) -> dict[str, dict[str, list[float]]]:
    """The scores of finished runs, by setting and column, a number a seed.

    Args:
        runs: As `sweep.plan` returns them, all of them trained.

    Raises:
        UserError: If a run's scores cannot be read.

    Example:

    ```python
    summarize(runs)["dropout=0.0"]["avg dev"]  # [70.1, 70.4, 69.8]
    ```
    """
    table: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        row = table.setdefault(run.setting, {})
        for column, score in _result(run.result_file).items():
            row.setdefault(column, []).append(score)
    return table


def _result(path: Path) -> dict[str, float]:
    found = read_json(path)
    scores = numbers_in(found)
    if not scores or not all(name.endswith((" dev", " test")) for name in scores):
        raise UserError(
            f"{path} is damaged: expected numbers for {', '.join(_LAST_COLUMNS)} and "
            f"such, received {shown(found)}; without it, the same command writes it "
            "again"
        )
    return scores


def format_table(table: Table) -> str:
    """A Markdown table: mean and sample standard deviation over the seeds.

    Args:
        table: As `summarize` returns it.

    Returns:
        Lines of equal width, without a final newline.

    Example:

    ```python
    print(format_table({"base": {"avg dev": [70.0, 71.0]}}))
    ```
    """
    columns = _columns(table)
    header = ["setting", *columns]
    rows = []
    for setting, scores in table.items():
        name = one_line(setting).replace("|", r"\|")
        cells = [_mean_and_deviation(scores.get(column, ())) for column in columns]
        rows.append([name, *cells])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    # The colons align numbers to the right.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in [header, rule, *rows])


def write_summary(directory: Path, table: Table) -> None:
    """Writes `sweep.json`, `sweep.md` and the plot `sweep.png`, `sweep.svg`.

    Args:
        directory: The sweep's.
        table: As `summarize` returns it.

    Raises:
        OSError: If a file cannot be written.

    Example:

    ```python
    write_summary(Path("runs/table-1"), summarize(runs))
    ```
    """
    from simcse_tf import figures

    write_json(directory / "sweep.json", table)
    with atomic_write(directory / "sweep.md") as path:
        path.write_text(format_table(table) + "\n", "utf-8")
    in_all_rows = [
        c for c in _columns(table) if all(c in row for row in table.values())
    ]
    if not in_all_rows:
        return
    column = in_all_rows[0]
    scores = [row[column] for row in table.values()]
    label = f"Spearman x 100, {column}"
    figures.save(figures.sweep(list(table), scores, label), directory / "sweep")


def _columns(table: Table) -> list[str]:
    present = dict.fromkeys(column for row in table.values() for column in row)
    selected = [column for column in present if column not in _LAST_COLUMNS]
    return selected + [column for column in _LAST_COLUMNS if column in present]


def _mean_and_deviation(scores: Sequence[float]) -> str:
    if not scores:
        return "–"
    mean = f"{statistics.fmean(scores):.2f}"
    return f"{mean} ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else mean


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *scores = cells
    name_width, *score_widths = widths
    padded = [
        score.rjust(width) for score, width in zip(scores, score_widths, strict=True)
    ]
    return f"| {' | '.join([name.ljust(name_width), *padded])} |"
