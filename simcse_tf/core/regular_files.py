"""Files that a user or a stranger names: opened only if they are regular files.

A directory, a dangling link or a pipe in a file's place is not the same as no file:
whoever took it for that would go on without what the file says, or wait for ever.
"""

import os
import stat
from pathlib import Path

from simcse_tf.core.errors import UserError

_LFS_POINTER = b"version https://git-lfs"


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file, which is then one that can be read.

    Args:
        path: The file.

    Returns:
        `False` if nothing has that name.

    Raises:
        UserError: If something else than a regular file has it, or a name on the way
            cannot be followed.

    Example:

    ```python
    is_there("models/mine/head.safetensors")
    ```
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    check_file(path)
    return True


def check_file(path: str | os.PathLike[str]) -> None:
    """Checks that a file is a regular one, and no pointer of Git LFS.

    Args:
        path: The file.

    Raises:
        UserError: If there is none, it cannot be read, or it is something else.

    Example:

    ```python
    check_file("models/mine/model.weights.h5")
    ```
    """
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):
            raise UserError(
                f"cannot read {shown_path(path)}: expected a file, found "
                f"{_name_of(kind)}"
            )
        with Path(path).open("rb") as file:
            begins = file.read(len(_LFS_POINTER))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if begins == _LFS_POINTER:
        raise UserError(
            f"{path} is a Git LFS pointer, not the file itself: run git lfs pull"
        )


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Reads a file.

    Args:
        path: The file.
        limit: int. The most bytes it may have.

    Raises:
        UserError: If it cannot be read, is no regular file or has more bytes.

    Example:

    ```python
    read_file("models/mine/vocab.txt", limit=2**27)
    ```
    """
    check_file(path)
    try:
        if (size := os.path.getsize(path)) > limit:
            raise UserError(f"{path} has {size} bytes: expected at most {limit}")
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def shown_path(path: str | os.PathLike[str], most: int = 300) -> str:
    """A path for a message, cut if it is long.

    Example:

    ```python
    shown_path("/models/" + "x" * 5000)  # "/models/xxx...xxx"
    ```
    """
    text = os.fspath(path).encode("unicode_escape").decode("ascii")
    plain = os.fspath(path) if os.fspath(path).isprintable() else text
    half = most // 2
    return plain if len(plain) <= most else f"{plain[:half]}...{plain[-half:]}"


def _unreadable(path: str | os.PathLike[str], error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    # Without strerror: a NUL in the name.
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"cannot read {shown_path(path)}: {reason}")


def _name_of(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
