"""A NumPy file written from the top: a killed process loses little of it."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from simcse_tf.core.atomic import atomic_write, clean_up, is_open_at, sync
from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import npy_header

_FLOAT32 = np.dtype(np.float32)
# Rows that are read at a time.
_AT_ONCE = 16384


class PartialArray:
    """Rows of a NumPy file, safe on the disk once `append` returns.

    Args:
        file: The file, open for reading and writing.
        final: What it is to become.
        key: string. Identifies what the rows are made from.
        shape: Rows and columns of the whole array.
        dtype: Of the array.

    Attributes:
        rows_done: int. How many rows are written.
        was_given: bool. Whether `give` has written the file.

    Example:

    ```python
    with partial_array("embeddings.npy", (1000, 768), key) as array:
        array.append(rows)
    ```
    """

    def __init__(
        self,
        file: BinaryIO,
        final: Path,
        key: str,
        shape: tuple[int, int],
        dtype: np.dtype,
    ):
        self._dtype = dtype
        self._file = file
        self._partial, self._journal = working_files(final)
        self._key = key
        self._rows, self._columns = shape
        header = npy_header(shape, dtype)
        self._start = len(header)
        row_bytes = shape[1] * dtype.itemsize
        rows = self._rows_recorded()
        begun = os.pread(file.fileno(), len(header), 0)
        size = os.fstat(file.fileno()).st_size
        # A kill may leave the journal of a file that is in place already, or gone.
        is_there = begun == header and len(header) + rows * row_bytes <= size
        self.rows_done = rows if is_there else 0
        if not self.rows_done:
            # First of all: it must never count rows that another key wrote.
            self._journal.unlink(missing_ok=True)
            sync(final.parent)
            file.write(header)
        self.was_given = False
        file.seek(len(header) + self.rows_done * row_bytes)
        file.truncate()

    def append(self, rows: np.ndarray) -> None:
        """Writes `rows`, `(n, columns)`, below those that are there.

        Raises:
            OSError: If they cannot be written.
        """
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.sync()
        self.rows_done += len(rows)
        with atomic_write(self._journal) as path:
            path.write_text(json.dumps({"key": self._key, "rows": self.rows_done}))

    def give(self, write: Callable[[Iterator[np.ndarray]], None]) -> None:
        """Lets another file be made of the rows, in place of this one.

        Args:
            write: Function that writes it, whole or not at all, of float32 arrays
                `(n, columns)`, one after the other.

        Raises:
            OSError: If the rows cannot be read.
            ValueError: If not all rows are there.
        """
        self.check_whole()
        write(self._blocks())
        self.was_given = True
        self.discard()

    def check_whole(self) -> None:
        """Checks that all rows are there.

        Raises:
            ValueError: If they are not.
        """
        if self.rows_done != self._rows:
            raise ValueError(f"expected {self._rows} rows, received {self.rows_done}")

    def sync(self) -> None:
        """Waits until what is written is on the disk.

        Raises:
            OSError: If it cannot be written.
        """
        self._file.flush()
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Removes what is written, which nobody can resume.

        Raises:
            OSError: If it cannot be removed.
        """
        self._journal.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)

    def _blocks(self) -> Iterator[np.ndarray]:
        row_bytes = self._columns * self._dtype.itemsize
        for first in range(0, self.rows_done, _AT_ONCE):
            count = min(_AT_ONCE, self.rows_done - first)
            # Mapped, a file that is cut would end the process.
            part = os.pread(
                self._file.fileno(), count * row_bytes, self._start + first * row_bytes
            )
            if len(part) < count * row_bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            yield np.frombuffer(part, self._dtype).reshape(count, self._columns)

    def _rows_recorded(self) -> int:
        try:
            journal = json.loads(self._journal.read_text())
            return int(journal["rows"]) if journal["key"] == self._key else 0
        except (OSError, ValueError, LookupError, TypeError):
            return 0


@contextmanager
def partial_array(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    key: str,
    dtype: np.dtype = _FLOAT32,
) -> Iterator[PartialArray]:
    """Yields what becomes the file `path` at the end of the block.

    Until then it is `path` with `.partial` after it, beside a `.partial.json`. Both
    stay if the block fails or the process is killed, and the next call with the same
    key resumes there.

    Args:
        path: The `.npy` file. Its parents are made; an older one is replaced.
        shape: Rows and columns of the whole array.
        key: string. Identifies what the rows are made from.
        dtype: Of the array. Defaults to float32.

    Raises:
        OSError: If it cannot be written.
        UserError: If another process is writing it, or another program's file has the
            name of the partial one.
        ValueError: If the block has not appended all rows.

    Example:

    ```python
    with partial_array("embeddings.npy", (1000, 768), key) as array:
        array.append(rows)
    ```
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    clean_up(final.parent)
    partial, journal = working_files(final)
    with _locked(partial) as file:
        array = PartialArray(file, final, key, shape, dtype)
        yield array
        if array.was_given:
            return
        array.check_whole()
        array.sync()
        partial.replace(final)
        sync(final.parent)
        journal.unlink(missing_ok=True)


def working_files(final: Path) -> tuple[Path, Path]:
    """What stands beside an array while it is written: its rows, and their journal.

    Example:

    ```python
    working_files(Path("o.npy"))  # o.npy.partial, o.npy.partial.json
    ```
    """
    partial = final.with_name(f"{final.name}.partial")
    return partial, partial.with_name(f"{partial.name}.json")


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    while True:
        with open(os.open(partial, flags, 0o666), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is writing {partial}: wait for it, or name "
                    "another output"
                ) from None
            # Its owner may have put it in place since it was opened.
            if not is_open_at(file.fileno(), partial):
                continue
            _check_own(file.fileno(), partial)
            yield file
            return


def _check_own(descriptor: int, partial: Path) -> None:
    """Another program may call its files `.partial` as well."""
    about = os.fstat(descriptor)
    magic = np.lib.format.MAGIC_PREFIX
    if not stat.S_ISREG(about.st_mode) or (
        about.st_size and os.pread(descriptor, len(magic), 0) != magic[: about.st_size]
    ):
        raise UserError(
            f"{partial}, where rows are written first, holds something else: remove it "
            "or name another output"
        )
