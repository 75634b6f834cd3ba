"""The directory of an index, for its only writer.

What is new is written first, then a manifest that names it. A kill at any moment leaves
the index as it was before or as it is after. What it leaves beside goes when the next
writer comes, but for what that one may resume.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simcse_tf.core.atomic import clean_up, sync
from simcse_tf.core.contents import listed
from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import locked
from simcse_tf.core.outputs import writing_output
from simcse_tf.core.regular_files import shown_path
from simcse_tf.indexing.manifest import MANIFEST_FILE, Manifest, read_manifest

FLAG = "--index"
SEGMENTS, CANDIDATES, REMOVED = "segments", "candidates", "removed"
LOCK_FILE = ".lock"
_PARTS = (SEGMENTS, CANDIDATES, REMOVED)
# What is written beside a final place; see `simcse_tf.core.atomic`.
_WORKPLACE = ".simcse"


@contextmanager
def changing(directory: str | os.PathLike[str]) -> Iterator[tuple[Path, Manifest]]:
    """Yields an index' directory and manifest to its only writer.

    Args:
        directory: The index.

    Raises:
        UserError: If it is none, another process writes it, or it cannot be written.

    Example:

    ```python
    with changing("wiki.index") as (place, manifest):
        write_manifest(place, manifest.changed(removed=None))
    ```
    """
    place = Path(directory).resolve()
    read_manifest(place)
    with writing_output(FLAG, directory), locked_index(place):
        manifest = read_manifest(place)
        clean(place, manifest)
        yield place, manifest


@contextmanager
def locked_index(place: Path) -> Iterator[None]:
    """Holds the lock of an index' directory.

    Args:
        place: The directory. It is made if it is not there.

    Raises:
        UserError: If another process holds it.

    Example:

    ```python
    with locked_index(place):
        clean(place, None)
    ```
    """
    message = f"another process writes {shown_path(place)}: wait for it"
    with locked(place / LOCK_FILE, message):
        yield


def clean(place: Path, manifest: Manifest | None) -> None:
    """Removes what no manifest names, but for what the next change may resume.

    Args:
        place: The index.
        manifest: Its manifest; `None` if it has none yet.

    Raises:
        OSError: If it cannot be removed.

    Example:

    ```python
    clean(place, manifest)  # removes segments/000007, of a writer that was killed
    ```
    """
    clean_up(place)
    named = {place / file.path for file in manifest.files} if manifest else set()
    used = {path.parent for path in named}
    resumable = place / SEGMENTS / next_name(manifest)
    for path in [path for part in _PARTS for path in (place / part).glob("*")]:
        if path in named or path == resumable:
            continue
        if path in used:
            for file in set(path.iterdir()) - named:
                file.unlink()
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def next_name(manifest: Manifest | None) -> str:
    """The name of what the next change writes.

    Example:

    ```python
    next_name(None)  # "000001"
    ```
    """
    return f"{(manifest.generation if manifest else 0) + 1:06d}"


def check_ours(place: Path) -> None:
    """Checks that nothing else than an index, or a part of one, is in a directory.

    Raises:
        UserError: If there is.

    Example:

    ```python
    check_ours(Path("wiki.index.partial"))
    ```
    """
    ours = {*_PARTS, MANIFEST_FILE, LOCK_FILE}
    names = os.listdir(place) if place.is_dir() else []
    others = [n for n in names if n not in ours and not n.endswith(_WORKPLACE)]
    if others:
        raise UserError(
            f"{FLAG}: {shown_path(place)} holds {listed(others)}: expected an index, "
            "an empty directory or none"
        )


@contextmanager
def nothing_in_vain(place: Path, manifest: Manifest | None) -> Iterator[None]:
    """Removes what a mistake in the input leaves, if there is nothing to resume.

    Args:
        place: The index.
        manifest: Its manifest before the change; `None` if it has none yet.

    Example:

    ```python
    with nothing_in_vain(place, manifest):
        writer.write_records()
    ```
    """
    try:
        yield
    except UserError:
        segment = place / SEGMENTS / next_name(manifest)
        if not any(segment.glob("vectors.npy*")):
            shutil.rmtree(segment, ignore_errors=True)
            with suppress(OSError):
                segment.parent.rmdir()
        raise


def sync_file(place: Path, path: str) -> None:
    """Waits until a file is on the disk under its name.

    Args:
        place: The index.
        path: string. Where the file is in there.

    Raises:
        OSError: If it cannot be read.

    Example:

    ```python
    sync_file(place, "candidates/000001.faiss")
    ```
    """
    for each in (place / path, (place / path).parent, place):
        sync(each)
