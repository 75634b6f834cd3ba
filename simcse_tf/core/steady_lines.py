"""A text file that is read twice, and must be the same both times."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from os import PathLike, fspath

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import read_whole_lines

# Lines that are compared, and held in memory, at a time.
_BLOCK = 16384


class Changed(UserError):
    """A file was written while it was read.

    Example:

    ```python
    try:
        count = sum(1 for line in lines.read())
    except Changed:
        lines = SteadyLines("sentences.txt")
    ```
    """


class SteadyLines:
    """The lines of a file, counted first.

    Args:
        path: The file. It is read through once.

    Attributes:
        digest: string. Of the file's content.

    Raises:
        UserError: If it cannot be read.

    Example:

    ```python
    lines = SteadyLines("sentences.txt")
    len(lines), next(lines.read())  # (1000000, b"A man plays.")
    ```
    """

    def __init__(self, path: str | PathLike[str]):
        self._path = path
        self._count = 0
        # One for each block, so that no changed line is ever given.
        self._digests: list[bytes] = []
        for block in self._blocks():
            self._count += len(block)
            self._digests.append(_digest(block))
        self.digest = _digest(self._digests).hex()

    def __len__(self) -> int:
        return self._count

    def read(self, start: int = 0) -> Iterator[bytes]:
        """The lines again, without their ends.

        Args:
            start: int. How many are left out at the top.

        Yields:
            bytes.

        Raises:
            Changed: If it is no longer the same file. No line that differs is given.
            UserError: If it cannot be read.
        """
        number = 0
        for number, block in enumerate(self._blocks(), start=1):
            if self._digests[number - 1 : number] != [_digest(block)]:
                raise self._changed()
            skipped = max(0, start - (number - 1) * _BLOCK)
            for line in block[skipped:]:
                yield line.removesuffix(b"\n").removesuffix(b"\r")
        if number < len(self._digests):
            raise self._changed()

    def _blocks(self) -> Iterator[list[bytes]]:
        lines = read_whole_lines(self._path)
        while block := list(islice(lines, _BLOCK)):
            yield block

    def _changed(self) -> Changed:
        return Changed(
            f"{fspath(self._path)} changed while it was read: wait until it is "
            "complete, or take a copy"
        )


def _digest(parts: list[bytes]) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
