"""What a source of training examples is."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

# `Source.columns` UTF-8 texts. A hard negative that a row lacks is `b""`. Where the
# source is scored, one more item is the score, as `b"4.2"`.
Row: TypeAlias = tuple[bytes, ...]


class Source(Protocol):
    """Examples that can be read in any order.

    Attributes:
        columns: int. 1 for sentences, 2 for pairs, 2 + n with n hard negatives.
        scored: bool. Whether each pair ends with a score, which `columns` does not
            count.
        skipped: int. How many rows were left out because a text or score is blank.
        notes: Strings. What a run says at its start: how the data were read, a line
            each.
        varies: bool. Whether an example is another one in another epoch.
        fingerprint: string. What tells these data from others.

    Example:

    ```python
    source = open_source("pairs.csv")
    source.read([0, 7], epoch=0)  # [(b"A man plays.", b"A man is playing."), ...]
    ```
    """

    columns: int
    scored: bool
    skipped: int
    notes: Sequence[str]
    varies: bool

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int], epoch: int) -> list[Row]:
        """The examples at `indices`.

        Those of a file are the same in every epoch; a source that draws positives
        draws others in each.

        Raises:
            UserError: If they can no longer be read, or are no longer the same.
        """
        ...


def origins_of(source: Source) -> Sequence[Source]:
    """The sources that hold all texts of a source, the same in every epoch.

    One that draws what an epoch holds, or makes texts, names those that it draws from
    as `origins`. A text that is made in training is in none of them.

    Args:
        source: A `Source`.

    Example:

    ```python
    origins_of(Mixture([Part("a.csv", a), Part("b.csv", b, weight=0.5)]))  # [a, b]
    ```
    """
    named = getattr(source, "origins", None)
    if named is None:
        return [source]
    return [origin for each in named for origin in origins_of(each)]


def kind_of(source: Source) -> str:
    """What a source holds, in a word.

    Example:

    ```python
    kind_of(open_source("nli_for_simcse.csv"))  # "triplets"
    ```
    """
    if source.scored:
        return "scored pairs"
    if source.columns > 3:
        return f"pairs with up to {source.columns - 2} hard negatives"
    return {1: "sentences", 2: "pairs", 3: "triplets"}[source.columns]
