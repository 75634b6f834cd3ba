"""Training examples in a text file, read where they stand on disk."""

import hashlib
import os
import weakref
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import check_file
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.base import Row
from simcse_tf.data.file_formats import file_format

_CHUNK = 2**20

# What changes when a file's content does: device, inode, size and time.
_Stamp: TypeAlias = tuple[int, int, int, int]


class FileSource:
    """A text file whose examples are read where they stand on disk.

    The file is read through at first, to check every line and to note where it starts.
    From then on it must stay as it is. A file that is put in its place does no harm:
    the old one stays open.

    Args:
        path: string. See `simcse_tf.data.sources.open_source`.

    Raises:
        UserError: See `simcse_tf.data.sources.open_source`.

    Example:

    ```python
    FileSource("sentences.txt").read([1])  # [(b"A dog runs.",)]
    ```
    """

    scored = False
    varies = False
    notes: Sequence[str] = ()

    def __init__(self, path: str):
        self.path = path
        self.skipped = 0
        self._format = file_format(Path(path).suffix.lower())
        check_file(path)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._stamp = _stamp(os.fstat(self._file))
        starts, ends = array("q"), array("q")
        for record in self._format.scan(LocatedLines(path)):
            if not all(text.strip() for text in record.row):
                self.skipped += 1
                continue
            starts.append(record.start)
            ends.append(record.end)
        if not starts:
            raise UserError(f"{path} is empty: expected a sentence or a row a line")
        self.columns = self._format.columns
        self._starts, self._ends = np.asarray(starts), np.asarray(ends)
        self._digest = self._digest_now()
        if _stamp(os.stat(path)) != self._stamp:
            raise self._changed()

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def fingerprint(self) -> str:
        """See `simcse_tf.data.base.Source`; `sha256sum` prints the same digest."""
        return f"sha256 {self._digest}"

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        starts, ends = self._starts[indices].tolist(), self._ends[indices].tolist()
        try:
            # Mapped, a file that is cut would end the process.
            records = [
                os.pread(self._file, end - start, start)
                for start, end in zip(starts, ends, strict=True)
            ]
            self._check_unchanged()
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from None
        return [self._format.parse(record) for record in records]

    def _check_unchanged(self) -> None:
        stamp = _stamp(os.fstat(self._file))
        if stamp == self._stamp:
            return
        # It may have been touched only.
        if self._digest_now() != self._digest:
            raise self._changed()
        self._stamp = stamp

    def _digest_now(self) -> str:
        digest, place = hashlib.sha256(), 0
        while chunk := os.pread(self._file, _CHUNK, place):
            digest.update(chunk)
            place += len(chunk)
        return digest.hexdigest()

    def _changed(self) -> UserError:
        return UserError(
            f"{self.path} was changed while it was in use: put back what was in it, or "
            "begin another run; write later versions under a name of their own"
        )


def _stamp(file: os.stat_result) -> _Stamp:
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns
