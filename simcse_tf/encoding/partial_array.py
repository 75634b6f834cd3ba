"""A NumPy file written from the top: a killed process loses little of it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from simcse_tf.core.atomic import atomic_write, sync


class PartialArray:
    """Rows of a NumPy file, safe on the disk once `append` returns.

    Args:
        file: The file, open for reading and writing.
        journal: The file that counts its rows.
        key: string. Identifies what the rows are made from.
        shape: Rows and columns of the whole array.

    Attributes:
        rows_done: int. How many rows are written.

    Example:

    ```python
    with partial_array("embeddings.npy", (1000, 768), key) as array:
        array.append(rows)
    ```
    """

    def __init__(self, file: BinaryIO, journal: Path, key: str, shape: tuple[int, int]):
        self._file = file
        self._journal = journal
        self._key = key
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                "fortran_order": False,
                "shape": shape,
            },
        )
        row_bytes = shape[1] * np.dtype(np.float32).itemsize
        rows = self._rows_recorded()
        # A kill may leave the journal of a file that is in place already, or gone.
        is_there = file.tell() + rows * row_bytes <= size
        self.rows_done = rows if is_there else 0
        file.seek(self.rows_done * row_bytes, os.SEEK_CUR)
        file.truncate()

    def append(self, rows: np.ndarray) -> None:
        """Writes float32 `rows`, `(n, columns)`, below those that are there.

        Raises:
            OSError: If they cannot be written.
        """
        self._file.write(np.ascontiguousarray(rows, np.float32).data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows_done += len(rows)
        with atomic_write(self._journal) as path:
            path.write_text(json.dumps({"key": self._key, "rows": self.rows_done}))

    def _rows_recorded(self) -> int:
        try:
            journal = json.loads(self._journal.read_text())
        except (OSError, ValueError):
            return 0
        return int(journal["rows"]) if journal.get("key") == self._key else 0


@contextmanager
def partial_array(
    path: str | os.PathLike[str], shape: tuple[int, int], key: str
) -> Iterator[PartialArray]:
    """Yields what becomes the file `path` at the end of the block.

    Until then it is `path` with `.partial` after it, beside a `.partial.json`. Both
    stay if the block fails or the process is killed, and the next call with the same
    key resumes there.

    Args:
        path: The `.npy` file. Its parents are made; an older one is replaced.
        shape: Rows and columns of the whole array.
        key: string. Identifies what the rows are made from.

    Raises:
        BlockingIOError: If another process is writing it.
        OSError: If it cannot be written.

    Example:

    ```python
    with partial_array("embeddings.npy", (1000, 768), key) as array:
        array.append(rows)
    ```
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{final.name}.partial")
    journal = final.with_name(f"{final.name}.partial.json")
    with open(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield PartialArray(file, journal, key, shape)
        partial.replace(final)
        sync(final.parent)
        journal.unlink(missing_ok=True)
