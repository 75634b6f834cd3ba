"""Files that a flag of a command names to be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simcse_tf.core.errors import UserError


def check_writable(flag: str, path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written, before work that takes long.

    Args:
        flag: string. The flag that names the file, for the message.
        path: The file. Need not be there, nor its directory.

    Raises:
        UserError: If it is a directory or there is no place to write it.

    Example:

    ```python
    check_writable("--json", "scores/out.json")
    ```
    """
    file = Path(path).absolute()
    there = next(parent for parent in file.parents if parent.exists())
    if file.is_dir():
        raise UserError(f"{flag}: cannot write {path}: it is a directory")
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(
            f"{flag}: cannot write {path}: {there} is not a writable directory"
        )


@contextmanager
def writing_output(flag: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Reports in one line why a file could not be written.

    Args:
        flag: string. The flag that names the file.
        path: What the block writes.

    Raises:
        UserError: If the block raises an `OSError`.

    Example:

    ```python
    with writing_output("--json", path):
        write_json(path, scores)
    ```
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{flag}: cannot write {path}: {error.strerror}") from None
