"""The files that a pipeline's workers write, on any file system that Beam knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from simcse_tf.core.errors import UserError
from simcse_tf.pipelines.files import whole_file
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


def write_json_lines(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a JSON object a line, whole or not at all.

    Args:
        path: The file.
        rows: The objects.
    """
    with whole_file(path) as temporary, temporary.open("wb") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def begin(flag: str, directory: str, names: Sequence[str]) -> None:
    """Makes a directory ready: what an unfinished run has left there goes.

    Args:
        flag: string. What a message calls it.
        directory: Where files are to be written.
        names: What `part_name` calls them.

    Raises:
        UserError: If it holds a finished run, or cannot be written.

    Example:

    ```python
    begin("--output", "deduplicated", ["groups", "kept"])
    ```
    """
    try:
        if FileSystems.exists(FileSystems.join(directory, SUMMARY_FILE)):
            raise UserError(
                f"{flag}: {directory} holds a finished run; expected a new directory"
            )
        if not FileSystems.exists(directory):
            FileSystems.mkdirs(directory)
        patterns = [FileSystems.join(directory, f"{n}-*-of-*") for n in names]
        found = [
            about.path
            for match in FileSystems.match(patterns)
            for about in match.metadata_list
        ]
        if found:
            FileSystems.delete(found)
    except (BeamIOError, ValueError, OSError) as error:
        raise UserError(f"{flag}: cannot write {directory}: {error}") from None


def finish(directory: str, summary: Mapping[str, Any]) -> None:
    """Says that all is there, and what it is.

    Args:
        directory: As for `begin`.
        summary: What is written as JSON.
    """
    write_json(FileSystems.join(directory, SUMMARY_FILE), summary)
