"""Training examples in a text file, read where they stand on disk."""

import mmap
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.base import Row
from simcse_tf.data.file_formats import file_format


class FileSource:
    """A text file whose examples are read where they stand on disk.

    The file is read through once, to check every line and to note where it starts.

    Args:
        path: string. See `simcse_tf.data.sources.open_source`.

    Raises:
        UserError: See `simcse_tf.data.sources.open_source`.

    Example:

    ```python
    FileSource("sentences.txt").read([1])  # [(b"A dog runs.",)]
    ```
    """

    def __init__(self, path: str):
        self.path = path
        self.skipped = 0
        self._format = file_format(Path(path).suffix.lower())
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
        with open(path, "rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        return [
            self._format.parse(self._text[self._starts[index] : self._ends[index]])
            for index in indices
        ]
