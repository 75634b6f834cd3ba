"""Several sources as one, each passed through as often an epoch as its weight says."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Row, Source
from simcse_tf.data.permutation import permutation


class Part(NamedTuple):
    """One source of a mixture.

    Attributes:
        name: string. What the user calls it.
        source: Its examples.
        weight: float. How often an epoch passes through them. Defaults to `1`.

    Example:

    ```python
    Part("pairs.csv", open_source("pairs.csv"), weight=0.5)
    ```
    """

    name: str
    source: Source
    weight: float = 1


class Mixture:
    """Several sources as one.

    A weight of 1 is each example once an epoch, so that sources of weight 1 are the
    same as one source with all their examples. A weight of 2 is each example twice, and
    0.25 a quarter of them: another quarter in the next epoch, none left out and none
    twice before all were seen. What an epoch holds follows from the seed and its number
    alone.

    Args:
        parts: The sources. Those with fewer hard negatives than another one lack them
            in their rows.
        shuffle: bool. Whether a part of a source is drawn at random, or follows the
            source's order. Defaults to `True`.
        seed: int. The seed of the drawing. Defaults to `42`.

    Raises:
        UserError: If the sources' columns differ.

    Example:

    ```python
    Mixture([Part("a.csv", a), Part("b.csv", b, weight=2)])  # len(a) + 2 * len(b)
    ```
    """

    def __init__(self, parts: Sequence[Part], shuffle: bool = True, seed: int = 42):
        _check_alike(parts)
        self._passes = [
            _Passes(part, shuffle, [seed, number]) for number, part in enumerate(parts)
        ]
        self._starts = np.cumsum([0, *(len(passes) for passes in self._passes)])
        sources = [part.source for part in parts]
        self.origins: Sequence[Source] = sources
        self.columns = max(source.columns for source in sources)
        self.scored = sources[0].scored
        self.skipped = sum(source.skipped for source in sources)
        self.varies = any(passes.vary for passes in self._passes)
        self.notes: Sequence[str] = [
            note
            for part, passes in zip(parts, self._passes, strict=True)
            for note in (*part.source.notes, *_weight_told(part, len(passes)))
        ]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def fingerprint(self) -> str:
        """See `simcse_tf.data.base.Source`."""
        parts = [
            [passes.source.fingerprint, len(passes.source), len(passes)]
            for passes in self._passes
        ]
        return f"sha256 {hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"

    def read(self, indices: Sequence[int], epoch: int = 0) -> list[Row]:
        """The examples at `indices`; see `simcse_tf.data.base.Source.read`."""
        places = np.asarray(indices, np.int64)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        rows: list[Row] = [()] * len(places)
        for owner in np.unique(owners).tolist():
            where = np.flatnonzero(owners == owner)
            own = places[where] - self._starts[owner]
            for index, row in self._passes[owner].read(own, epoch):
                rows[where[index]] = self._padded(row, owner)
        return rows

    def _padded(self, row: Row, owner: int) -> Row:
        columns = self._passes[owner].source.columns
        absent = (b"",) * (self.columns - columns)
        return row[:columns] + absent + row[columns:]


class _Passes:
    """A source, pass after pass without end; each epoch takes the next part of it."""

    def __init__(self, part: Part, shuffle: bool, seed: Sequence[int]):
        self.source = part.source
        examples = len(part.source)
        self._count = max(1, round(part.weight * examples))
        whole = self._count % examples == 0
        self.vary = part.source.varies or not whole
        # An epoch of whole passes is shuffled when its batches are made.
        self._drawn = shuffle and not whole
        self._seed = seed
        # So many passes have examples in one epoch.
        kept = math.ceil(part.weight) + 1
        self._order = functools.lru_cache(kept)(self._shuffled)

    def __len__(self) -> int:
        return self._count

    def read(self, places: np.ndarray, epoch: int) -> Iterator[tuple[int, Row]]:
        """The examples at some places of an epoch, each with its index in `places`."""
        passes, rows = np.divmod(epoch * self._count + places, len(self.source))
        for number in np.unique(passes).tolist():
            where = np.flatnonzero(passes == number)
            own = rows[where]
            if self._drawn:
                own = self._order(number)[own]
            read = self.source.read(own.tolist(), number)
            yield from zip(where.tolist(), read, strict=True)

    def _shuffled(self, number: int) -> np.ndarray:
        return permutation(len(self.source), *self._seed, number)


def _check_alike(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if _kind(part.source) != _kind(first.source):
            raise UserError(
                "data.train: expected the same columns in all files (some may have "
                f"fewer hard negatives), received {_kind(first.source)} in "
                f"{first.name} and {_kind(part.source)} in {part.name}"
            )


def _kind(source: Source) -> str:
    if source.scored:
        return "scored pairs"
    return "single sentences" if source.columns == 1 else "pairs"


def _weight_told(part: Part, count: int) -> list[str]:
    if part.weight == 1:
        return []
    return [f"{part.name}: weight {part.weight:g}, {count} examples an epoch"]
