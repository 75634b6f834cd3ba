"""The files that a pipeline's workers write, on any file system that Beam knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_directory, writing_output
from simcse_tf.pipelines.files import is_local, whole_file
from simcse_tf.pipelines.job import write_json

# Written last: where it is, all else is whole.
SUMMARY_FILE = "summary.json"


def part_name(directory: str, name: str, number: int, parts: int, suffix: str) -> str:
    """The path of one of several files.

    Example:

    ```python
    part_name("out", "kept", 3, 10, ".parquet")  # "out/kept-00003-of-00010.parquet"
    ```
    """
    return FileSystems.join(directory, f"{name}-{number:05}-of-{parts:05}{suffix}")


@contextmanager
def whole_part(path: str) -> Iterator[Path]:
    """Yields a file to write that is at `path` at the end of the block, whole.

    Args:
        path: string. Where it is to be.

    Raises:
        UserError: If it cannot be written.

    Example:

    ```python
    with whole_part("out/kept-00000-of-00001.parquet") as file:
        pq.write_table(table, file)
    ```
    """
    with writing_output("--output", path), whole_file(path) as file:
        yield file


def write_json_lines(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a JSON object a line, whole or not at all.

    Args:
        path: The file.
        rows: The objects.

    Example:

    ```python
    write_json_lines("out/dead-letters-00000-of-00001.jsonl", [{"id": "7"}])
    ```
    """
    with whole_part(path) as temporary, temporary.open("wb") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def begin(flag: str, directory: str, names: Sequence[str]) -> None:
    """Makes a directory ready: what an unfinished run has left there goes.

    Args:
        flag: string. What a message calls it.
        directory: Where files are to be written.
        names: What `part_name` calls them.

    Raises:
        UserError: If it holds a finished run or something else, or cannot be written.

    Example:

    ```python
    begin("--output", "deduplicated", ["groups", "kept"])
    ```
    """
    if is_local(directory):
        output_directory(flag, directory)
    try:
        if not FileSystems.exists(directory):
            FileSystems.mkdirs(directory)
        [match] = FileSystems.match([FileSystems.join(directory, "*")])
    except (BeamIOError, ValueError, OSError) as error:
        raise UserError(f"{flag}: cannot write {directory}: {error}") from None
    ours = re.compile(rf"(?:{'|'.join(names)})-\d{{5,}}-of-\d{{5,}}\.\w+")
    left = []
    for path in sorted(about.path for about in match.metadata_list):
        name = path.rpartition("/")[2]
        if name == SUMMARY_FILE:
            raise UserError(
                f"{flag}: {directory} holds a finished run; expected a new directory"
            )
        if not ours.fullmatch(name):
            raise UserError(
                f"{flag}: expected an empty directory, received {directory}, which "
                f"holds {name}"
            )
        left.append(path)
    if left:
        FileSystems.delete(left)


def finish(directory: str, summary: Mapping[str, Any]) -> None:
    """Says that all is there, and what it is.

    Args:
        directory: As for `begin`.
        summary: What is written as JSON.

    Example:

    ```python
    finish("deduplicated", {"kept": 900})
    ```
    """
    write_json(FileSystems.join(directory, SUMMARY_FILE), summary)
