"""What a source of training examples is."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

Row: TypeAlias = tuple[bytes, ...]


class Source(Protocol):
    """Examples that can be read in any order.

    Attributes:
        columns: int. 1 for sentences, 2 for pairs, 3 for triplets.
        skipped: int. How many blank lines were left out.
        fingerprint: string. What tells these data from others.

    Example:

    ```python
    source = open_source("pairs.csv")
    source.read([0, 7], epoch=0)  # [(b"A man plays.", b"A man is playing."), ...]
    ```
    """

    columns: int
    skipped: int

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int], epoch: int) -> list[Row]:
        """The examples at `indices`, each a tuple of `columns` UTF-8 texts.

        Those of a file are the same in every epoch; a source that draws positives
        draws others in each.

        Raises:
            UserError: If they can no longer be read, or are no longer the same.
        """
        ...
