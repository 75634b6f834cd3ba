"""Rows that cannot be used, and why: a file for each shard that has some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam

from simcse_tf.pipelines.embedding_shards import BadRow, Shards
from simcse_tf.pipelines.part_files import part_name, write_json_lines

DEAD_LETTERS_FILE = "dead-letters"


def write_dead_letters(bad: Any, shards: Sequence[Shards], directory: str) -> Any:
    """Writes bad rows as JSON lines: the file, the row from 0, the id, the reason.

    Args:
        bad: Collection of `BadRow`.
        shards: All that is read.
        directory: Where the files are written.

    Example:

    ```python
    write_dead_letters(read.bad, [shards], "deduplicated")
    ```
    """
    paths = dict.fromkeys(file.path for each in shards for file in each.files)
    numbers = {path: number for number, path in enumerate(paths)}
    return (
        bad
        | "Shards of bad" >> beam.Map(lambda row: (numbers[row[0]], row))
        | "Bad rows of shards" >> beam.GroupByKey()
        | "Write bad rows" >> beam.Map(_write, len(numbers), directory)
    )


def _write(found: tuple[int, Iterable[BadRow]], parts: int, directory: str) -> None:
    shard, rows = found
    path = part_name(directory, DEAD_LETTERS_FILE, shard, parts, ".jsonl")
    write_json_lines(path, [row._asdict() for row in sorted(rows)])
