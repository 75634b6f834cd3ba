"""Writing files and directories whole or not at all.

What is being written stands in a directory of its own beside its final place, such as
`.best.new-k3x9w2ab.simcse`. Its writer holds a lock on a file in there, which the
kernel takes back when the writer dies: so the next writer beside it knows what may go.
"""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Constants of Linux' renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# What `tempfile.mkdtemp` puts between prefix and suffix is eight of these characters.
_SUFFIX = ".simcse"
_WORKPLACE = re.compile(rf"\..*\.new-[a-z0-9_]{{8}}{re.escape(_SUFFIX)}", re.DOTALL)
# Of a name, as much as leaves room for the rest in the 255 bytes of a file's name.
_NAME_BYTES = 200
# In a workplace: its lock, and what was at the final place before.
_LOCK = ".simcse.lock"
_ASIDE = ".simcse.old"


@contextmanager
def atomic_directory(
    path: str | os.PathLike[str], replace: bool = True
) -> Iterator[Path]:
    """Yields a temporary directory that takes the place of `path` at the end.

    If the block fails, `path` is as it was before and nothing else is left. If the
    process is killed, the next one that writes beside `path`, or `clean_up`, removes
    what is left.

    Args:
        path: The directory to write. Its parents are made.
        replace: bool. Whether a directory already at `path` is replaced. Defaults
            to `True`.

    Raises:
        FileExistsError: If it exists and must not be replaced.
        OSError: If it cannot be written.

    Example:

    ```python
    with atomic_directory("runs/mine/best") as directory:
        model.save_to_preset(str(directory))
    ```
    """
    final = Path(path)
    with workplace(final) as place:
        temporary = place / final.name
        temporary.mkdir()
        yield temporary
        _sync_tree(temporary)
        if replace:
            _replace(temporary, final, place)
        else:
            _move_to(temporary, final)
        sync(final.parent)


@contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """Yields a directory beside `final` that is this process's while it lives.

    What is left of it at the end is removed, with the directory.

    Args:
        final: What is to be written. Its parents are made.

    Raises:
        OSError: If there is no place for it.

    Example:

    ```python
    with workplace(Path("served/1")) as place:
        (place / "version").mkdir()
    ```
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    clean_up(final.parent)
    place, lock = _locked_place(final)
    try:
        yield place
    finally:
        with suppress(OSError):
            _remove(place)
        os.close(lock)


def publish(directory: Path, final: Path) -> None:
    """Moves a directory out of a workplace to its final place, where nothing is yet.

    Args:
        directory: What has been written.
        final: Its place, on the same disk.

    Raises:
        FileExistsError: If something is there; `directory` is then where it was.
        OSError: If it cannot be written.

    Example:

    ```python
    publish(place / "version", Path("served/1"))
    ```
    """
    _sync_tree(directory)
    _move_to(directory, final)
    sync(final.parent)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary name for a file or a link that is moved to `path` at the end.

    If the block fails, `path` is as it was before and nothing else is left. If the
    process is killed, the next one that writes beside `path`, or `clean_up`, removes
    what is left.

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
    with workplace(final) as place:
        temporary = place / final.name
        yield temporary
        # Where a link leads from its final place is not where it leads from here.
        if not temporary.is_symlink():
            sync(temporary)
        temporary.replace(final)
        sync(final.parent)


def remove_directory(path: Path) -> None:
    """Removes a directory; no other process ever finds it there in part.

    Raises:
        OSError: If it cannot be moved.

    Example:

    ```python
    remove_directory(Path("runs/mine/checkpoints/step-00000500"))
    ```
    """
    with workplace(path) as place:
        path.rename(place / path.name)


def clean_up(directory: Path) -> None:
    """Removes what killed processes had begun to write in a directory.

    An old directory that one had put aside, to replace it, gets its name back. What a
    process that lives is writing stays, and so does all that this module has not made.

    Args:
        directory: The parent of what was written. It need not exist.

    Example:

    ```python
    clean_up(Path("runs/mine"))  # removes .best.new-k3x9w2ab.simcse
    ```
    """
    # What cannot be removed hinders nobody.
    with suppress(OSError):
        for name in filter(_WORKPLACE.fullmatch, os.listdir(directory)):
            with suppress(OSError):
                _remove_if_left(directory / name)


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


def is_open_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that has a name now.

    Who waited for a file's lock asks: its owner may have moved or removed it.

    Example:

    ```python
    with open("embeddings.npy.partial", "r+b") as file:
        is_open_at(file.fileno(), Path("embeddings.npy.partial"))  # True
    ```
    """
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _locked_place(final: Path) -> tuple[Path, int]:
    name = os.fsdecode(os.fsencode(final.name)[:_NAME_BYTES])
    while True:
        place = Path(tempfile.mkdtemp(_SUFFIX, f".{name}.new-", final.parent))
        try:
            lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            # Another process took it for a dead one's: it had no lock yet.
            continue
        except BaseException:
            place.rmdir()
            raise
        # Some file systems know no locks: what is left there stays.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_open_at(lock, place / _LOCK):
            return place, lock
        os.close(lock)


def _remove_if_left(place: Path) -> None:
    try:
        lock = os.open(place / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Killed before it had a lock, or after it had removed all else.
        place.rmdir()
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(place)
    finally:
        os.close(lock)


def _remove(place: Path) -> None:
    for old in (place / _ASIDE).glob("*"):
        if not os.path.lexists(place.parent / old.name):
            old.rename(place.parent / old.name)
    # The lock is last: without it, what else is there could be anybody's.
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()
    (place / _LOCK).unlink(missing_ok=True)
    place.rmdir()


def _replace(directory: Path, final: Path, place: Path) -> None:
    if _exchange(directory, final):
        return
    _step_aside(final, place)
    try:
        _move_to(directory, final)
    except FileExistsError:
        # Nothing was there, and another writer came first.
        if not _exchange(directory, final):
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two directories in one move, if kernel and file system support it."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and not renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )


def _step_aside(final: Path, place: Path) -> None:
    # A rename cannot replace a directory that holds files.
    if os.path.lexists(final):
        (place / _ASIDE).mkdir()
        final.rename(place / _ASIDE / final.name)


def _move_to(directory: Path, final: Path) -> None:
    try:
        directory.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise FileExistsError(
            errno.EEXIST, os.strerror(errno.EEXIST), str(final)
        ) from None


def _sync_tree(directory: Path) -> None:
    # A file in there was written whole, too: its workplace may not have gone.
    for parent, _, _ in os.walk(directory):
        clean_up(Path(parent))
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
