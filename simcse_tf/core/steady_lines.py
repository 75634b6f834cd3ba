"""A text file that is read twice, and must be the same both times."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike, fspath

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import check_text, read_raw_lines

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
    """The lines of a file, or other texts that it holds, counted first.

    Args:
        path: The file. It is read through once.
        texts: Optional iterable of bytes that can be iterated again. Defaults to
            `None`: the file's lines, without their ends.

    Attributes:
        digest: string. Of the texts.

    Raises:
        UserError: If it cannot be read, or begins as files do that hold no text.

    Example:

    ```python
    lines = SteadyLines("sentences.txt")
    len(lines), next(lines.read())  # (1000000, b"A man plays.")
    ```
    """

    def __init__(
        self,
        path: str | PathLike[str],
        texts: Iterable[bytes] | None = None,
    ):
        self._path = path
        self._texts = texts
        if texts is None:
            check_text(path)
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
        for number, block in enumerate(self._blocks_again(), start=1):
            if self._digests[number - 1 : number] != [_digest(block)]:
                raise self._changed()
            yield from block[max(0, start - (number - 1) * _BLOCK) :]
        if number < len(self._digests):
            raise self._changed()

    def _blocks(self) -> Iterator[list[bytes]]:
        given = self._texts
        texts = read_raw_lines(self._path) if given is None else iter(given)
        while block := list(islice(texts, _BLOCK)):
            yield block

    def _blocks_again(self) -> Iterator[list[bytes]]:
        try:
            yield from self._blocks()
        except UserError as error:
            if self._texts is None:
                raise
            # It was well-formed the first time.
            raise self._changed() from error

    def _changed(self) -> Changed:
        return Changed(
            f"{fspath(self._path)} changed while it was read: wait until it is "
            "complete, or take a copy"
        )


def _digest(parts: list[bytes]) -> bytes:
    # With their lengths, because a text may hold a line end.
    whole = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return hashlib.sha256(whole).digest()
