"""Which version directories a base directory holds. Needs no TensorFlow."""

import os
from pathlib import Path

from simcse_tf.core.errors import UserError

LARGEST_VERSION = 2**63 - 1  # the protocol carries versions as int64

# The state of a directory's files: name, size and time of change of each.
Snapshot = frozenset[tuple[str, int, int]]


def versions(base_path: Path) -> dict[int, Path]:
    """Finds the versions in a base directory.

    A version is a directory whose name is a number and which holds a
    `saved_model.pb`; a directory without one is still being written.

    Args:
        base_path: The directory that holds the version directories.

    Returns:
        The versions' directories by number, in rising order.

    Raises:
        UserError: `base_path` is not a directory or cannot be read.

    Example:
    ```python
    versions(Path("exports/simcse"))  # {1: Path("exports/simcse/1")}
    ```
    """
    if not base_path.is_dir():
        raise UserError(f"--model_base_path: no such directory: {base_path}")
    try:
        found = {int(p.name): p for p in base_path.iterdir() if _is_version(p)}
    except OSError as error:
        raise UserError(
            f"--model_base_path: cannot read {base_path}: {error}"
        ) from error
    return dict(sorted(found.items()))


def newest_version(base_path: Path) -> tuple[int, Path]:
    """Finds the highest version in a base directory.

    Args:
        base_path: As for `versions`.

    Returns:
        The version's number and its directory.

    Raises:
        UserError: As for `versions`, or there is none.

    Example:
    ```python
    newest_version(Path("exports/simcse"))  # (1, Path("exports/simcse/1"))
    ```
    """
    found = versions(base_path)
    if not found:
        raise UserError(_no_version(base_path))
    return list(found.items())[-1]


def snapshot(path: Path) -> Snapshot:
    """Returns name, size and time of change of every file below a directory.

    Args:
        path: A version's directory; files that disappear meanwhile are left out.

    Example:
    ```python
    before = snapshot(path)
    snapshot(path) == before  # True while no file changes
    ```
    """
    found = set()
    for directory, _, names in os.walk(path):
        for name in names:
            file = Path(directory, name)
            try:
                stat = file.stat()
            except OSError:
                continue
            found.add((str(file), stat.st_size, stat.st_mtime_ns))
    return frozenset(found)


def _is_version(path: Path) -> bool:
    name = path.name
    if not (name.isascii() and name.isdecimal() and int(name) <= LARGEST_VERSION):
        return False
    return (path / "saved_model.pb").is_file()


def _no_version(base_path: Path) -> str:
    if (base_path / "saved_model.pb").is_file():
        return (
            f"--model_base_path: {base_path} is itself a SavedModel, expected the "
            f"directory above it, whose subdirectories are numbered versions"
        )
    return (
        f"--model_base_path: no version in {base_path}, expected numbered "
        f"directories with a saved_model.pb inside, such as "
        f"{base_path / '1' / 'saved_model.pb'}"
    )
