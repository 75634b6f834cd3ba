"""The bytes that rows are read from: a file where it stands, or what it unpacks to.

A compressed file cannot be read in any order. It is unpacked once, to a temporary file
without a name that is gone with the process.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import PurePath
from typing import IO, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import check_file

_CHUNK = 2**20
# What stands behind a suffix: nothing, or the name of a compression.
PACKINGS = ("", ".gz", ".zst")

# What changes when a file's content does: device, inode, size and time.
_Stamp: TypeAlias = tuple[int, int, int, int]

# Writes to the second file what the first one holds.
Unpack: TypeAlias = Callable[[IO[bytes], IO[bytes]], None]


class StoredFile:
    """A file that is read in any order, and must stay as it is.

    A file that is put in its place does no harm: the old one stays open.

    Args:
        path: string. The file.
        unpack: Optional function `(file, out)` that writes what the file holds to
            `out`. Once that is done, the file itself is not read again. Defaults to
            `None`: its own bytes are read.

    Attributes:
        digest: string. SHA-256 of the file, as `sha256sum` prints it.

    Raises:
        UserError: If it cannot be read or unpacked, or changes meanwhile.

    Example:

    ```python
    StoredFile("sentences.txt").read([0], [13])  # [b"A man plays.\n"]
    ```
    """

    def __init__(self, path: str, unpack: Unpack | None = None):
        self.path = path
        check_file(path)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._stamp = _stamp(self._file)
        self.digest = self._digest_now()
        self._unpacked_file: IO[bytes] | None = None
        if unpack is not None:
            unpacked = self._unpacked(unpack)
            weakref.finalize(self, unpacked.close)
            self.check_unchanged()
            self._unpacked_file = unpacked

    def lines(self) -> Iterator[bytes]:
        """The lines, with their ends.

        Raises:
            UserError: If they cannot be read.
        """
        try:
            with open(os.dup(self._rows), "rb") as file:
                file.seek(0)
                yield from file
        except OSError as error:
            raise self._unreadable(error) from None

    def read(self, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """The bytes between some places.

        Raises:
            UserError: If they cannot be read or are no longer the same.
        """
        rows = self._rows
        try:
            # Mapped, a file that is cut would end the process.
            records = [
                os.pread(rows, end - start, start)
                for start, end in zip(starts, ends, strict=True)
            ]
        except OSError as error:
            raise self._unreadable(error) from None
        self.check_unchanged()
        return records

    @property
    def _rows(self) -> int:
        return self._unpacked_file.fileno() if self._unpacked_file else self._file

    def check_unchanged(self) -> None:
        """Checks that the file is what it was when it was opened, if it is still read.

        Raises:
            UserError: If it is not.
        """
        stamp = _stamp(self._file)
        if self._unpacked_file or stamp == self._stamp:
            return
        # It may have been touched only.
        if self._digest_now() != self.digest:
            raise UserError(
                f"{self.path} was changed while it was in use: put back what was in "
                "it, or begin another run; write later versions under a name of their "
                "own"
            )
        self._stamp = stamp

    def _unpacked(self, unpack: Unpack) -> IO[bytes]:
        """A file without a name that holds what `unpack` writes."""
        try:
            with ExitStack() as stack:
                out: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
                with open(os.dup(self._file), "rb") as file:
                    file.seek(0)
                    unpack(file, out)
                out.flush()
                # It is closed here only if something went wrong.
                stack.pop_all()
            return out
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                # Not known where no directory can be written.
                place = tempfile.tempdir or "a temporary directory"
                raise UserError(
                    f"cannot unpack {self.path} to {place}: {error.strerror}; TMPDIR "
                    "names another directory"
                ) from None
            reason = str(error).strip().splitlines()[:1]
            raise UserError(
                f"{self.path} is cut short or damaged: {' '.join(reason)}"
            ) from None

    def _digest_now(self) -> str:
        digest, place = hashlib.sha256(), 0
        while chunk := os.pread(self._file, _CHUNK, place):
            digest.update(chunk)
            place += len(chunk)
        return digest.hexdigest()

    def _unreadable(self, error: OSError) -> UserError:
        return UserError(f"cannot read {self.path}: {error.strerror}")


def decompression(suffix: str) -> Unpack | None:
    """What unpacks the files with a suffix.

    Args:
        suffix: string. Such as `".gz"`.

    Returns:
        `None` if they are not compressed.

    Example:

    ```python
    StoredFile("sentences.txt.gz", decompression(".gz"))
    ```
    """
    return {".gz": _gunzip, ".zst": _unzstd}.get(suffix)


def suffixes_of(path: str) -> tuple[str, str]:
    """A file's suffix, and that of its compression, both in lower case.

    Example:

    ```python
    suffixes_of("pairs.csv.gz")  # (".csv", ".gz")
    suffixes_of("sentences.txt")  # (".txt", "")
    ```
    """
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes]
    packing = suffixes.pop() if suffixes and decompression(suffixes[-1]) else ""
    return suffixes[-1] if suffixes else "", packing


def _gunzip(file: IO[bytes], out: IO[bytes]) -> None:
    with gzip.GzipFile(fileobj=file) as unpacked:
        shutil.copyfileobj(unpacked, out, _CHUNK)


def _unzstd(file: IO[bytes], out: IO[bytes]) -> None:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as unpacked:
        shutil.copyfileobj(unpacked, out, _CHUNK)


def _stamp(descriptor: int) -> _Stamp:
    file = os.fstat(descriptor)
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns
