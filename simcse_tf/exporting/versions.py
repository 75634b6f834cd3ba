"""Where an export goes: versions in a base directory, or a directory of its own."""

import os
from contextlib import suppress
from pathlib import Path

from simcse_tf.core import atomic
from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_directory
from simcse_tf.server.versions import GRAPH_FILE, LARGEST_VERSION, numbered


def next_version(base_dir: Path) -> int:
    """The number after the newest version's; 1 where there is none.

    Raises:
        UserError: If the directory cannot be read, or TF Serving knows no such number.

    Example:

    ```python
    next_version(Path("exports/simcse"))  # 3
    ```
    """
    there = numbered(base_dir, "--output") if base_dir.exists() else []
    newest = max(there, default=0)
    if newest == LARGEST_VERSION:
        raise UserError(f"--output: {base_dir}/{newest} has the last number there is")
    return newest + 1


def publish(directory: Path, base_dir: Path) -> Path:
    """Makes a written export the next version, also where others do so meanwhile.

    Args:
        directory: The export, on the disk of the base directory.
        base_dir: The base directory.

    Returns:
        The version's directory.

    Raises:
        OSError: If it cannot be moved there.

    Example:

    ```python
    publish(place / "version", Path("exports/simcse"))  # exports/simcse/3
    ```
    """
    while True:
        version = base_dir / str(next_version(base_dir))
        # Another export has taken the number since.
        with suppress(FileExistsError):
            atomic.publish(directory, version)
            return version


def check_base_directory(base_dir: Path, model: str | None = None) -> None:
    """Checks that versions can be written into a directory.

    Args:
        base_dir: The directory. It need not be there.
        model: Optional string. The MODEL argument, which must be elsewhere.

    Raises:
        UserError: If they cannot, or the directory is a version or the model itself.

    Example:

    ```python
    check_base_directory(Path("exports/simcse"), "runs/sup/best")
    ```
    """
    output_directory("--output", base_dir)
    if (base_dir / GRAPH_FILE).exists():
        raise UserError(
            f"--output: {base_dir} is a version itself: name the directory above it"
        )
    if model is not None and _is_same(base_dir, model):
        raise UserError(
            f"--output: {base_dir} is the model's directory, which training and others "
            "replace: name another one"
        )
    # Asked now, because it may be refused.
    next_version(base_dir)


def check_new_directory(directory: Path) -> None:
    """Checks that a directory can be made: it is not there, or is empty.

    Raises:
        UserError: If there is something, or no place to write it.

    Example:

    ```python
    check_new_directory(Path("models/mine"))
    ```
    """
    output_directory("--output", directory)
    if directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"--output: {directory} is there already: name another one")


def version_directory(directory: Path) -> Path:
    """A version's directory, or the newest one of a base directory.

    Args:
        directory: Either of them.

    Raises:
        UserError: If it is neither.

    Example:

    ```python
    version_directory(Path("exports/simcse"))  # exports/simcse/2
    ```
    """
    try:
        if not directory.is_dir():
            raise UserError(f"--check: no directory {directory}")
        found = {} if _holds_graph(directory) else numbered(directory, "--check")
        version = found[max(found)] if found else directory
        if not _holds_graph(version):
            raise UserError(
                f"--check: no {GRAPH_FILE} in {version}: expected a version that "
                "export wrote, or the directory above it"
            )
    except OSError as error:
        raise UserError(
            f"--check: cannot read {error.filename}: {error.strerror}"
        ) from None
    return version


def _is_same(directory: Path, model: str) -> bool:
    try:
        return os.path.samefile(directory, model)
    except (OSError, ValueError):
        return False  # a handle, or not there


def _holds_graph(directory: Path) -> bool:
    return (directory / GRAPH_FILE).is_file()
