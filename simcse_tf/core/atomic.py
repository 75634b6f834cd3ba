"""Writing files and directories whole or not at all."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Constants of Linux' renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def atomic_directory(
    path: str | os.PathLike[str], replace: bool = True
) -> Iterator[Path]:
    """Yields a temporary sibling that takes the place of `path` at the end.

    If the block fails, `path` is as it was before and nothing else is left. If the
    process is killed, `clean_up` removes what is left.

    Args:
        path: The directory to write. Its parents are made.
        replace: bool. Whether a directory already at `path` is replaced. Defaults
            to `True`.

    Raises:
        OSError: If it cannot be written, or exists and must not be replaced.

    Example:

    ```python
    with atomic_directory("runs/mine/best") as directory:
        model.save_to_preset(str(directory))
    ```
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.new-", dir=final.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _sync_tree(temporary)
        if not (replace and _exchange(temporary, final)):
            if replace:
                _step_aside(final)
            temporary.rename(final)
        sync(final.parent)
        _discard(_old(final))
    except BaseException:
        _come_back(final)
        raise
    finally:
        _discard(temporary)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary sibling file name that is renamed to `path` at the end.

    Args:
        path: The file to write. Its parents are made.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    with atomic_write("scores.json") as path:
        path.write_text(json.dumps(scores), "utf-8")
    ```
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(final)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(final)
        sync(final.parent)
    finally:
        _discard(temporary)


def remove_directory(path: Path) -> None:
    """Removes a directory; no other process ever finds it there in part.

    Example:

    ```python
    remove_directory(Path("runs/mine/checkpoints/step-500"))
    ```
    """
    path.rename(_temporary(path))
    _discard(_temporary(path))


def clean_up(directory: Path) -> None:
    """Removes what a killed process had begun to write in a directory.

    An old directory that it had put aside, to replace it, gets its name back.

    Args:
        directory: The parent of what was written. It need not exist.

    Raises:
        OSError: If something cannot be renamed or removed.

    Example:

    ```python
    clean_up(Path("runs/mine"))  # removes .best.new-x1, .config.json.new-7, ...
    ```
    """
    for old in filter(Path.is_dir, directory.glob(".*.old")):
        _come_back(directory / old.name[1 : -len(".old")])
        _discard(old)
    for temporary in directory.glob(".*.new-*"):
        _discard(temporary)


def check_room(directory: Path, size: int) -> None:
    """Takes `size` bytes on the disk of a directory, and gives them back.

    Args:
        directory: A directory.
        size: int. At least 1.

    Raises:
        OSError: If there is no such room.

    Example:

    ```python
    check_room(Path("runs/mine"), 2**30)  # raises unless 1 GiB can be written
    ```
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, size)


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's names, are on the disk.

    Without it, a rename may reach the disk before the content: a machine that dies
    then leaves an empty file under the final name.

    Raises:
        OSError: If it cannot be opened or written.

    Example:

    ```python
    sync(Path("runs/mine/config.json"))
    ```
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(final: Path) -> Path:
    return final.parent / f".{final.name}.new-{os.getpid()}"


def _old(final: Path) -> Path:
    return final.parent / f".{final.name}.old"


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two directories in one move, if kernel and file system support it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and not renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )


def _step_aside(final: Path) -> None:
    # A rename cannot replace a directory that holds files.
    if final.exists():
        _discard(_old(final))
        final.rename(_old(final))


def _come_back(final: Path) -> None:
    if _old(final).exists() and not final.exists():
        _old(final).rename(final)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(directory: Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
