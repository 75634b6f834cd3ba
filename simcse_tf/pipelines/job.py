"""The manifest of an output directory: what it is made from, and which files it has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import parse_json, to_json
from simcse_tf.pipelines.files import matching, open_bytes, whole_file
from simcse_tf.pipelines.shards import InputFile, Shard
from simcse_tf.version import __version__

MANIFEST = "manifest.json"
_FORMAT = 1
_INPUT, _MODEL = "input", "model"
# Where the same model may be found elsewhere, and what an endpoint answers.
_NAMES = {"saved_model", "target"}
_PROBE = "probe"


class Job(NamedTuple):
    """What is embedded, by what, to what.

    Attributes:
        output: string. The directory.
        model: What tells the model from others, by names for messages.
        settings: What else decides the files, by their flags.
        files: What is read.
        shards: The parts of it.
        suffix: string. Of the files that are written.

    Example:

    ```python
    job.embeddings_file(job.shards[0])  # "out/embeddings-00000-of-00012.parquet"
    ```
    """

    output: str
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    files: Sequence[InputFile]
    shards: Sequence[Shard]
    suffix: str

    def embeddings_file(self, shard: Shard) -> str:
        """Where the embeddings of a shard are written."""
        return self._file("embeddings", shard, self.suffix)

    def dead_letters_file(self, shard: Shard) -> str:
        """Where the bad rows of a shard are written, if it has some."""
        return self._file("dead-letters", shard, ".jsonl")

    def _file(self, name: str, shard: Shard, suffix: str) -> str:
        of = len(self.shards)
        return f"{self.output}/{name}-{shard.number:05}-of-{of:05}{suffix}"


def begin(job: Job) -> list[Shard]:
    """Writes the manifest, or compares it with one that is there.

    Args:
        job: What is to be done.

    Returns:
        The shards that are not written yet.

    Raises:
        UserError: If the directory was begun with another model, input or setting, or
            holds something else.

    Example:

    ```python
    begin(job)  # all shards, and none once they are written
    ```
    """
    path = f"{job.output}/{MANIFEST}"
    there = set(matching(f"{job.output}/*"))
    if any(name.endswith(f"/{MANIFEST}") for name in there):
        with open_bytes(path) as file:
            _check_same(parse_json(file.read(), path), _content(job), job.output)
    elif others := sorted(there):
        raise UserError(
            f"--output: expected an empty directory, or one of this command; received "
            f"{others[0]}"
        )
    else:
        write_json(path, _content(job))
    done = {name.rpartition("/")[2] for name in there}
    return [
        shard
        for shard in job.shards
        if job.embeddings_file(shard).rpartition("/")[2] not in done
    ]


def dead_letters(job: Job) -> int:
    """How many bad rows are written, in all runs together.

    Example:

    ```python
    dead_letters(job)  # 3
    ```
    """
    count = 0
    for path in matching(f"{job.output}/dead-letters-*-of-*.jsonl"):
        with open_bytes(path) as file:
            count += sum(1 for _ in file)
    return count


def write_json(path: str, values: Any) -> None:
    """Writes a JSON file wherever Beam writes files, whole or not at all.

    Example:

    ```python
    write_json("gs://bucket/out/manifest.json", {"format": 1})
    ```
    """
    with whole_file(path) as file:
        file.write_text(to_json(values, indent=2) + "\n", "utf-8")


def _content(job: Job) -> dict[str, Any]:
    values = {
        "format": _FORMAT,
        "version": __version__,
        _MODEL: dict(job.model),
        "settings": dict(job.settings),
        _INPUT: [file._asdict() for file in job.files],
        "shards": len(job.shards),
    }
    # As a reader finds it.
    return dict(json.loads(to_json(values)))


def _is_same_model(there: Any, now: dict[str, Any]) -> bool:
    if not isinstance(there, dict):
        return False
    if any(
        there.get(key) != now.get(key) for key in {*there, *now} - _NAMES - {_PROBE}
    ):
        return False
    # An endpoint's answers depend on its batches.
    before, after = (np.array(each.get(_PROBE, 1.0)) for each in (there, now))
    return before.shape == after.shape and bool(np.allclose(before, after, atol=1e-3))


def _check_same(there: Any, now: dict[str, Any], output: str) -> None:
    """Refuses to mix what two commands make."""
    if not isinstance(there, dict) or there.get("format") != _FORMAT:
        raise UserError(f"{output}/{MANIFEST} is not of this command")
    elsewhere = "name another --output, or remove the directory"
    if not _is_same_model(there.get(_MODEL), now[_MODEL]):
        raise UserError(
            f"{output} was begun with another model: {_told(there.get(_MODEL))} there, "
            f"{_told(now[_MODEL])} now; {elsewhere}"
        )
    if there.get(_INPUT) != now[_INPUT]:
        before, after = _first_difference(there.get(_INPUT) or [], now[_INPUT])
        raise UserError(
            f"{output} was begun with another input: {_told(before)} there, "
            f"{_told(after)} now; {elsewhere}"
        )
    for key in ("settings", "shards"):
        if there.get(key) != now[key]:
            raise UserError(
                f"{output} was begun with other {key}: {_told(there.get(key))} there, "
                f"{_told(now[key])} now; {elsewhere}"
            )


def _first_difference(there: list[Any], now: list[Any]) -> tuple[Any, Any]:
    for before, after in zip(there, now, strict=False):
        if before != after:
            return before, after
    shared = min(len(there), len(now))
    return (there[shared:] or [None])[0], (now[shared:] or [None])[0]


def _told(values: Any) -> str:
    if not isinstance(values, dict):
        return "nothing" if values is None else str(values)
    shown = {key: value for key, value in values.items() if key != _PROBE}
    return ", ".join(f"{key} {_short(value)}" for key, value in shown.items())


def _short(value: Any) -> str:
    # Enough of a digest to tell two apart.
    text = str(value)
    is_digest = len(text) == 64 and all(each in "0123456789abcdef" for each in text)
    return text[:12] if is_digest else text
