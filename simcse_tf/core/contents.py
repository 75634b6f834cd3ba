"""What a directory holds, and whether its files are as they were written."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simcse_tf.core.errors import UserError

_CHUNK = 2**20
_MOST_LISTED = 5


@dataclass
class Contents:
    """The names below a directory, relative to it, by what they are.

    Attributes:
        files: Regular files, and links to such files.
        directories: Directories.
        others: What must not be opened, because a reader could wait for ever: pipes,
            sockets and devices. Also links to directories, which may lead in a circle
            or out of here, and links that lead nowhere.

    Example:

    ```python
    contents_of(Path("exports/simcse/1")).files  # ["assets.extra/...", ...]
    ```
    """

    files: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def contents_of(directory: Path) -> Contents:
    """Lists all that is below a directory, and opens none of it.

    Args:
        directory: The directory.

    Raises:
        UserError: If it, or a directory below it, cannot be read.

    Example:

    ```python
    contents_of(Path("exports/simcse/1")).others  # []
    ```
    """
    found = Contents()
    try:
        _list(directory, found)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
    return found


def check_kinds(contents: Contents) -> None:
    """Checks that there are files and directories alone.

    Raises:
        UserError: If there is something else; the message names it.

    Example:

    ```python
    check_kinds(contents_of(Path("exports/simcse/1")))
    ```
    """
    if contents.others:
        raise UserError(
            f"{listed(contents.others)}: expected files and directories alone, "
            "received a pipe, a device, or a link to no file"
        )


def check_hashes(
    directory: Path, files: Iterable[str], hashes: Mapping[str, str]
) -> None:
    """Compares files with the hashes that were taken when they were written.

    Args:
        directory: The directory.
        files: The files that are there, as `contents_of` lists them.
        hashes: SHA-256 by the name of a file.

    Raises:
        UserError: If one of them is missing, cannot be read or is another.

    Example:

    ```python
    check_hashes(version, contents_of(version).files, manifest.files)
    ```
    """
    if missing := hashes.keys() - set(files):
        raise UserError(f"{listed(missing)} is missing")
    if changed := [
        name for name in sorted(hashes) if sha256(directory / name) != hashes[name]
    ]:
        raise UserError(f"{listed(changed)} is not as it was written (SHA-256)")


def sha256(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        UserError: If it cannot be read.

    Example:

    ```python
    sha256(Path("saved_model.pb"))  # "9f86d08188..."
    ```
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def listed(names: Iterable[str]) -> str:
    """Names in a line, the first few of them.

    Example:

    ```python
    listed(["b", "a"])  # "a, b"
    ```
    """
    ordered = sorted(names)
    more = len(ordered) - _MOST_LISTED
    return ", ".join(ordered[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _list(directory: Path, found: Contents) -> None:
    # No recursion: a path of 4,096 bytes may be 2,000 directories deep.
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        for name in os.listdir(directory / prefix):
            path = directory / prefix / name
            relative = prefix + name
            if path.is_symlink() or not path.is_dir():
                kind = found.files if path.is_file() else found.others
                kind.append(relative)
            else:
                found.directories.append(relative)
                waiting.append(f"{relative}/")
    for names in (found.files, found.directories, found.others):
        names.sort()
