"""Writing rows as a file that training reads."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.datasets.source import COLUMNS

SUFFIXES = (".jsonl", ".csv", ".tsv")


def write_rows(path: Path, rows: Iterable[Sequence[str]], negatives: int) -> None:
    """Writes rows of an anchor, a positive and hard negatives, whole or not at all.

    Args:
        path: The file, with one of `SUFFIXES`. `.jsonl` holds the hard negatives as a
            list; the others have a column for each, empty where a row has fewer.
        rows: The rows.
        negatives: int. The most that a row has.

    Raises:
        UserError: If a `.tsv` file, which has no quotes, cannot hold a text.
        OSError: If the file cannot be written.

    Example:

    ```python
    write_rows(Path("out.jsonl"), [("A man plays.", "He plays.", "It rains.")], 1)
    ```
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        if path.suffix.lower() == ".jsonl":
            _write_json(file, rows)
        else:
            _write_columns(file, rows, negatives, path)


def _write_json(file: TextIO, rows: Iterable[Sequence[str]]) -> None:
    anchor_name, positive_name, negative_name = COLUMNS
    for anchor, positive, *negatives in rows:
        values = {
            anchor_name: anchor,
            positive_name: positive,
            negative_name: negatives,
        }
        file.write(json.dumps(values, ensure_ascii=False) + "\n")


def _write_columns(
    file: TextIO, rows: Iterable[Sequence[str]], negatives: int, path: Path
) -> None:
    names = [*COLUMNS, *(f"{COLUMNS[2]}{n}" for n in range(2, negatives + 1))]
    write: Callable[[Sequence[str]], object] = csv.writer(
        file, lineterminator="\n"
    ).writerow
    if path.suffix.lower() == ".tsv":
        write = _unquoted(file, path)
    write(names)
    for row in rows:
        write([*row, *[""] * (len(names) - len(row))])


def _unquoted(file: TextIO, path: Path) -> Callable[[Sequence[str]], object]:
    def write(row: Sequence[str]) -> None:
        for text in row:
            if any(mark in text for mark in "\t\n\r"):
                raise UserError(
                    f"{path}: a .tsv file has no quotes, and cannot hold {text[:60]!r} "
                    "with a tab or line break: write .jsonl or .csv"
                )
        file.write("\t".join(row) + "\n")

    return write
