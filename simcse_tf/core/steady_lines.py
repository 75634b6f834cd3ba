"""A text file that is read twice, and must be the same both times."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from os import PathLike, fspath
from typing import Generic, TypeVar

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import check_text, read_raw_lines

_Item = TypeVar("_Item")

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


class SteadyItems(Generic[_Item]):
    """What a file holds, counted first, and given again if it is the same.

    Args:
        path: The file. Its items are gone through once.
        items: Iterable that can be iterated again.
        bytes_of: Function from an item to what says all of it.

    Attributes:
        digest: string. Of the items.

    Raises:
        UserError: If it cannot be read.

    Example:

    ```python
    numbers = SteadyItems("numbers.txt", [1, 2], lambda number: b"%d" % number)
    len(numbers), list(numbers.read())  # (2, [1, 2])
    ```
    """

    def __init__(
        self,
        path: str | PathLike[str],
        items: Iterable[_Item],
        bytes_of: Callable[[_Item], bytes],
    ):
        self._path = path
        self._items = items
        self._bytes_of = bytes_of
        self._count = 0
        # One for each block, so that no changed item is ever given.
        self._digests: list[bytes] = []
        for block in self._blocks():
            self._note(block, self._count)
            self._count += len(block)
            self._digests.append(self._digest_of(block))
        self.digest = digest(self._digests).hex()

    def __len__(self) -> int:
        return self._count

    def read(self, start: int = 0) -> Iterator[_Item]:
        """The items again.

        Args:
            start: int. How many are left out at the top.

        Raises:
            Changed: If it is no longer the same file. No item that differs is given.
            UserError: If it cannot be read.
        """
        number = 0
        for number, block in enumerate(self._blocks_again(), start=1):
            if self._digests[number - 1 : number] != [self._digest_of(block)]:
                raise self._changed()
            yield from block[max(0, start - (number - 1) * _BLOCK) :]
        if number < len(self._digests):
            raise self._changed()

    def _changed(self) -> Changed:
        return Changed(
            f"{fspath(self._path)} changed while it was read: wait until it is "
            "complete, or take a copy"
        )

    def _note(self, block: list[_Item], first: int) -> None:
        """Called once with each block, and the number of its first item from 0 on."""

    def _blocks(self) -> Iterator[list[_Item]]:
        items = iter(self._items)
        while block := list(islice(items, _BLOCK)):
            yield block

    def _blocks_again(self) -> Iterator[list[_Item]]:
        try:
            yield from self._blocks()
        except UserError as error:
            # It was well-formed the first time.
            raise self._changed() from error

    def _digest_of(self, block: list[_Item]) -> bytes:
        return digest([self._bytes_of(item) for item in block])


class SteadyLines(SteadyItems[bytes]):
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
        self._is_plain = texts is None
        if texts is None:
            check_text(path)
            texts = _Lines(path)
        super().__init__(path, texts, lambda text: text)

    def _blocks_again(self) -> Iterator[list[bytes]]:
        # Any bytes are lines: what fails is the reading.
        return self._blocks() if self._is_plain else super()._blocks_again()


class _Lines:
    def __init__(self, path: str | PathLike[str]):
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        return read_raw_lines(self._path)


def digest(parts: list[bytes]) -> bytes:
    """SHA-256 of some bytes and of where one part ends.

    Example:

    ```python
    digest([b"one", b"two"]) == digest([b"onet", b"wo"])  # False
    ```
    """
    # With their lengths, because a text may hold a line end.
    whole = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return hashlib.sha256(whole).digest()
