"""Files, wherever Beam reaches them: on this disk, `gs://`, `s3://` and others."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError

# Beam's class has types for some of its methods alone.
_SYSTEMS: Any = FileSystems


class Stamp(NamedTuple):
    """What changes when a file's content does.

    Attributes:
        size: int. Its bytes.
        changed: float. The seconds at which it was last written.

    Example:

    ```python
    Stamp(size=120, changed=1700000000.5)
    ```
    """

    size: int
    changed: float


def is_local(path: str) -> bool:
    """Whether a path is of this machine's disk, and no address such as `gs://`.

    Example:

    ```python
    is_local("out/part.parquet")  # True
    ```
    """
    return _SYSTEMS.get_scheme(path) is None


def matching(pattern: str) -> list[str]:
    """The files that a path or a glob names, in order.

    Args:
        pattern: string. With `*`, `?` and `**` as Beam reads them.

    Raises:
        UserError: If they cannot be listed.

    Example:

    ```python
    matching("reviews/*.jsonl")  # ["reviews/a.jsonl", "reviews/b.jsonl"]
    ```
    """
    return sorted(about.path for about in _matching(pattern))


def stamp_of(path: str) -> Stamp:
    """When a file was last written, and how large it is.

    Raises:
        UserError: If there is none.

    Example:

    ```python
    stamp_of("reviews.jsonl").size  # 120
    ```
    """
    found = _matching(path)
    if len(found) != 1:
        raise UserError(f"no file {path}")
    return Stamp(found[0].size_in_bytes, found[0].last_updated_in_seconds)


def open_bytes(path: str) -> IO[bytes]:
    """A file's own bytes, still packed where it is.

    Raises:
        UserError: If it cannot be read.

    Example:

    ```python
    with open_bytes("reviews.jsonl") as file:
        file.seek(100)
    ```
    """
    try:
        file: IO[bytes] = _SYSTEMS.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        )
    except (BeamIOError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    return file


@contextmanager
def local_file(path: str) -> Iterator[str]:
    """A file on this machine's disk, copied there for the block if it is elsewhere.

    Raises:
        UserError: If it cannot be read.

    Example:

    ```python
    with local_file("gs://bucket/part.tfrecord") as path:
        dataset = tf.data.TFRecordDataset(path)
    ```
    """
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "file")
        _copy(path, copy)
        yield str(copy)


def copy_tree(directory: str, target: Path) -> None:
    """Copies all files below a directory to this machine's disk.

    Raises:
        UserError: If there are none, or one cannot be read.

    Example:

    ```python
    copy_tree("gs://bucket/served/1", Path("/tmp/served"))
    ```
    """
    prefix = directory.rstrip("/") + "/"
    paths = matching(f"{prefix}**")
    if not paths:
        raise UserError(f"no files in {directory}")
    for path in paths:
        copy = target / path.removeprefix(prefix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, copy)


@contextmanager
def whole_file(path: str) -> Iterator[Path]:
    """Yields a file to write that is at `path` at the end of the block, whole.

    A worker that does the same work again, or at the same time, puts another whole
    one in its place. What a killed one leaves has another name.

    Args:
        path: string. Where it is to be.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    with whole_file("gs://bucket/out/part.jsonl") as file:
        file.write_text("{}")
    ```
    """
    if is_local(path):
        with atomic_write(path) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory, "file")
        yield written
        # Some stores have no parts of files; a file system may.
        begun = f"{path}.{uuid.uuid4().hex}.tmp"
        with written.open("rb") as file:
            out = _SYSTEMS.create(begun, compression_type=CompressionTypes.UNCOMPRESSED)
            with out:
                shutil.copyfileobj(file, out, 2**20)
        _SYSTEMS.rename([begun], [path])


def _matching(pattern: str) -> list[FileMetadata]:
    try:
        [result] = _SYSTEMS.match([pattern])
    except (BeamIOError, ValueError) as error:
        raise UserError(f"cannot list {pattern}: {error}") from None
    return list(result.metadata_list)


def _copy(path: str, target: Path) -> None:
    with open_bytes(path) as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, 2**20)
