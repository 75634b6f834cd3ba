"""Locks between processes: who holds a file's lock works alone."""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simcse_tf.core.atomic import is_open_at
from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import shown_path

# What file systems without locks answer, some network ones among them.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# How often the file may be gone when it is locked.
_ATTEMPTS = 100


class Locked(UserError):
    """Another process holds a lock.

    Example:

    ```python
    try:
        with locked("cache/.lock", "another process writes cache"):
            write()
    except Locked:
        time.sleep(1)
    ```
    """


@contextmanager
def locked(path: str | os.PathLike[str], message: str) -> Iterator[None]:
    """Holds the lock of a file, for one process at a time.

    The kernel gives the lock back when the process ends, however it ends: a file that
    a killed process left locks nobody out. Linux passes the lock on to an NFS server.
    Where a file system has no locks, a line on stderr says so.

    Args:
        path: The file. It is made, with its parents, and removed at the end, with
            those parents that were made here and hold nothing.
        message: string. What to say, and do, if another process holds the lock. Who it
            is is added.

    Raises:
        Locked: If another process holds it, which is a `UserError`.
        UserError: If the file cannot be made.

    Example:

    ```python
    with locked("runs/mine/.lock", "another process trains in runs/mine"):
        train()
    ```
    """
    file = Path(path)
    parents = [file.parent, *file.parent.parents]
    made = [directory for directory in parents if not directory.exists()]
    try:
        try:
            descriptor = _acquire(file, message)
        except OSError as error:
            raise UserError(
                f"cannot lock {shown_path(file)}: {error.strerror}"
            ) from None
        try:
            yield
        finally:
            # While the lock is held: whoever opened the file before sees that it is
            # no longer there, and makes another.
            with suppress(OSError):
                file.unlink()
            os.close(descriptor)
    finally:
        with suppress(OSError):
            # The innermost first.
            for directory in made:
                directory.rmdir()


def _acquire(file: Path, message: str) -> int:
    """The descriptor of the file, once it is locked and still has its name."""
    for attempt in range(_ATTEMPTS):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            # Its directory went, with the process that had made it.
            if attempt < _ATTEMPTS - 1:
                continue
            raise
        try:
            _lock(descriptor, file, message)
            if is_open_at(descriptor, file):
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(file))


def _lock(descriptor: int, file: Path, message: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
        raise Locked(f"{message} ({holder or 'process unknown'})") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f"{file.parent}: its file system has no locks ({error.strerror}): see to "
            "it that no other process writes there",
            file=sys.stderr,
        )


def _sign(descriptor: int) -> None:
    # On a full disk the lock holds as well.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        text = f"process {os.getpid()} on {socket.gethostname()}"
        os.pwrite(descriptor, text.encode(), 0)
