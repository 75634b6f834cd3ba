"""Which version directories a base directory holds. Needs no TensorFlow."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from simcse_tf.core.errors import UserError

LARGEST_VERSION = 2**63 - 1  # the protocol carries versions as int64
GRAPH_FILE = "saved_model.pb"

# The state of a directory's files: name, size and time of change of each.
Snapshot = frozenset[tuple[str, int, int]]


def numbered(base_path: Path, flag: str = "--model_base_path") -> dict[int, Path]:
    """Finds what has a version's number for a name, as TF Serving reads it.

    Args:
        base_path: The directory that holds the version directories.
        flag: The flag that names it, for messages.

    Returns:
        Paths by number, in rising order. Of `1` and `01` it is `1`.

    Raises:
        UserError: `base_path` is not a directory or cannot be read.

    Example:
    ```python
    numbered(Path("exports/simcse"))  # {1: Path("exports/simcse/1")}
    ```
    """
    try:
        names = os.listdir(base_path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UserError(f"{flag}: no such directory: {base_path}") from None
    except OSError as error:
        raise UserError(f"{flag}: cannot read {base_path}: {error.strerror}") from error
    numbers = [name for name in names if name.isascii() and name.isdecimal()]
    # The name without zeros is the shortest, and overwrites the others.
    longest_first = sorted(numbers, key=lambda name: (-len(name), name))
    found = {int(name): base_path / name for name in longest_first}
    return {n: path for n, path in sorted(found.items()) if n <= LARGEST_VERSION}


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
    return {n: path for n, path in numbered(base_path).items() if holds_graph(path)}


def holds_graph(path: Path) -> bool:
    """Whether a directory holds a `saved_model.pb`, or cannot be looked into.

    Of the latter nobody knows; what loads it says why.

    Example:
    ```python
    holds_graph(Path("exports/simcse/1"))  # True
    ```
    """
    try:
        return not stat.S_ISDIR(os.stat(path / GRAPH_FILE).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


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

    The time is that of the last change of content or permissions.

    Args:
        path: A version's directory; files that disappear meanwhile are left out.

    Example:
    ```python
    before = snapshot(path)
    snapshot(path) == before  # True while no file changes
    ```
    """
    found, waiting = set(), [str(path)]
    # No recursion: a path may be 2,000 directories deep.
    while waiting:
        file = waiting.pop()
        with suppress(OSError):
            status = os.stat(file)
            found.add((file, status.st_size, status.st_ctime_ns))
            if stat.S_ISDIR(status.st_mode) and not _is_link_below(path, file):
                waiting += [os.path.join(file, name) for name in os.listdir(file)]
    return frozenset(found)


def _is_link_below(path: Path, file: str) -> bool:
    return file != str(path) and os.path.islink(file)


def _no_version(base_path: Path) -> str:
    if (base_path / GRAPH_FILE).is_file():
        return (
            f"--model_base_path: {base_path} is itself a SavedModel, expected the "
            f"directory above it, whose subdirectories are numbered versions"
        )
    return (
        f"--model_base_path: no version in {base_path}, expected numbered "
        f"directories with a saved_model.pb inside, such as "
        f"{base_path / '1' / 'saved_model.pb'}"
    )
