"""What a pipeline reads, cut into shards: each becomes one file of the output."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.pipelines.files import Stamp, matching, open_bytes, stamp_of
from simcse_tf.pipelines.row_formats import row_format
from simcse_tf.pipelines.rows import Part, Wanted

# Shards that all workers have something to do with, where rows are enough for it.
_SHARDS = 64
_FEWEST_ROWS, _MOST_ROWS = 1024, 65536
# A guess at the bytes of a row, for a size that need not be known.
_ROW_BYTES = 128
_CHUNK = 2**20
# Files that are looked through at a time: most of it is waiting and hashing.
_FILES_AT_ONCE = 8


class InputFile(NamedTuple):
    """A file that is read.

    Attributes:
        name: string. What ids and dead letters call it: its path without the
            directories that all inputs are in.
        rows: int. How many it has, bad ones included.
        sha256: string. Of its bytes.
        text: Optional string. The column that is embedded.
        id: Optional string. The column of the ids.

    Example:

    ```python
    InputFile("reviews.jsonl", 1000, "9f86d08188...", "body", None)
    ```
    """

    name: str
    rows: int
    sha256: str
    text: str | None
    id: str | None


class Shard(NamedTuple):
    """Rows that are read, embedded and written together.

    Attributes:
        number: int. Which one it is, counted from 0.
        name: string. The file's, as `InputFile` has it.
        stamp: `Stamp` of the file when it was looked through.
        part: The rows.

    Example:

    ```python
    shards[0].part.rows  # 1024
    ```
    """

    number: int
    name: str
    stamp: Stamp
    part: Part


def files_of(patterns: Sequence[str]) -> list[str]:
    """The files that paths and globs name, each once.

    Raises:
        UserError: If one of them names none.

    Example:

    ```python
    files_of(["reviews/*.jsonl"])  # ["reviews/a.jsonl", "reviews/b.jsonl"]
    ```
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        paths = matching(pattern)
        if not paths:
            raise UserError(f"--input: no file {pattern}")
        found.update(dict.fromkeys(paths))
    return list(found)


def shards_of(
    paths: Sequence[str], wanted: Wanted, rows: int | None = None
) -> tuple[list[InputFile], list[Shard]]:
    """Looks through all files, and cuts them into shards.

    Args:
        paths: The files.
        wanted: What the user said of them.
        rows: Optional int. Rows of a shard, at most. Defaults to `None`: as many as
            make about 64 shards, at least 1,024 and at most 65,536.

    Raises:
        UserError: If one of them cannot be read or changes meanwhile, or they have no
            rows.

    Example:

    ```python
    files, shards = shards_of(["reviews.jsonl"], Wanted())
    ```
    """
    stamps = [stamp_of(path) for path in paths]
    if rows is None:
        guessed = sum(stamp.size for stamp in stamps) // (_ROW_BYTES * _SHARDS)
        rows = min(max(guessed, _FEWEST_ROWS), _MOST_ROWS)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        digests = list(pool.map(_sha256, paths))
        cut = list(
            pool.map(lambda path: row_format(path).parts(path, wanted, rows), paths)
        )
    files, shards = [], []
    for path, name, stamp, digest, parts in zip(
        paths, _names(paths), stamps, digests, cut, strict=True
    ):
        check_unchanged(path, stamp)
        count = sum(part.rows for part in parts)
        text, id = (parts[0].text, parts[0].id) if parts else (None, None)
        files.append(InputFile(name, count, digest, text, id))
        shards += [Shard(0, name, stamp, part) for part in parts]
    if not shards:
        raise UserError(f"--input: no rows in {paths[0]}" + ", ..." * (len(paths) > 1))
    return files, [shard._replace(number=n) for n, shard in enumerate(shards)]


def check_unchanged(path: str, stamp: Stamp) -> None:
    """Checks that nobody has written a file since.

    Raises:
        UserError: If somebody has.

    Example:

    ```python
    check_unchanged("reviews.jsonl", stamp)
    ```
    """
    if stamp_of(path) != stamp:
        raise UserError(
            f"{path} changed while it was read: wait until it is complete, or take a "
            "copy"
        )


def _names(paths: Sequence[str]) -> list[str]:
    """The paths without the directories that all are in."""
    split = [path.split("/") for path in paths]
    shared = 0
    while all(
        len(parts) > shared + 1 and parts[shared] == split[0][shared] for parts in split
    ):
        shared += 1
    return ["/".join(parts[shared:]) for parts in split]


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
