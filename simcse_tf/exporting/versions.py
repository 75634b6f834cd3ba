"""Where an export goes: versions in a base directory, or a directory of its own."""

from pathlib import Path

from simcse_tf.core.errors import UserError

GRAPH_FILE = "saved_model.pb"


def versions(base_dir: Path) -> list[int]:
    """The numbers of the versions in a base directory, which need not exist.

    Example:

    ```python
    versions(Path("exports/simcse"))  # [1, 2]
    ```
    """
    names = [path.name for path in base_dir.iterdir()] if base_dir.exists() else []
    return sorted(int(name) for name in names if name.isdecimal())


def next_version(base_dir: Path) -> int:
    """The number after the newest version's; 1 where there is none.

    Example:

    ```python
    next_version(Path("exports/simcse"))  # 3
    ```
    """
    return 1 + max(versions(base_dir), default=0)


def check_new_directory(directory: Path) -> None:
    """Checks that a directory can be made: it is not there, or is empty.

    Raises:
        UserError: If there is something.

    Example:

    ```python
    check_new_directory(Path("models/mine"))
    ```
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
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
    if not directory.is_dir():
        raise UserError(f"--check: no directory {directory}")
    if not (directory / GRAPH_FILE).is_file() and versions(directory):
        directory /= str(max(versions(directory)))
    if not (directory / GRAPH_FILE).is_file():
        raise UserError(
            f"--check: no {GRAPH_FILE} in {directory}: expected a version that "
            "export wrote, or the directory above it"
        )
    return directory
