"""The candidates nearest to each anchor: exact search, shard by shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np

from simcse_tf.encoding.embedding_files import EmbeddingsAbout
from simcse_tf.pipelines.counting import count
from simcse_tf.pipelines.embedding_shards import Rows, Shard, Shards, read_rows
from simcse_tf.pipelines.repeated_texts import shard_of
from simcse_tf.search.exact import top_k

# Anchors that are searched for at a time. Their numbers begin at a multiple of it.
BLOCK = 1024
# Candidates that are read at a time: choosing among few of them costs more.
_CANDIDATES = 32768
# In place of a cosine: there is no candidate.
NONE = -2.0

# For each anchor of a block, numbers of candidates and their cosines, nearest first.
Nearest: TypeAlias = tuple[np.ndarray, np.ndarray]
# An anchors' shard, and pairs of an anchor and a candidate that is no negative.
_Anchors: TypeAlias = tuple[Shard, np.ndarray]


def nearest_candidates(
    excluded: Any, distinct: Any, anchors: Shards, candidates: Shards, depth: int
) -> Any:
    """Searches for every anchor in all shards of candidates.

    Args:
        excluded: Collection of `(anchor, candidate)` numbers that are not looked at.
        distinct: Collection of a candidates' `Shard` and the numbers of its rows that
            repeat a text.
        anchors: All shards of anchors.
        candidates: All shards of candidates.
        depth: int. How many are looked for.

    Returns:
        Collection of a block's number and its `Nearest`, of `(BLOCK, depth)`.

    Example:

    ```python
    nearest_candidates(excluded, distinct, anchors, candidates, depth=100)
    ```
    """
    firsts = anchors.firsts, candidates.firsts
    keyed = excluded | "Shards of excluded" >> beam.Map(
        lambda pair: (
            (shard_of(pair[0], firsts[0]), shard_of(pair[1], firsts[1])),
            pair,
        )
    )
    tasks = distinct | "Shards of both" >> beam.FlatMap(_tasks, anchors.files)
    return (
        {"task": tasks, "excluded": keyed}
        | "Searches" >> beam.CoGroupByKey()
        | "Search" >> beam.FlatMap(_search, anchors.about, candidates.about, depth)
        | "Nearest" >> beam.CombinePerKey(Merge(depth))
    )


class Merge(beam.CombineFn):
    """What several shards have for a block of anchors, to the nearest of all.

    Args:
        depth: int. How many are kept.

    Example:

    ```python
    found | beam.CombinePerKey(Merge(depth=100))
    ```
    """

    def __init__(self, depth: int):
        self._depth = depth

    def create_accumulator(self) -> Nearest:
        shape = (BLOCK, self._depth)
        return np.full(shape, -1, np.int64), np.full(shape, NONE)

    def add_input(self, kept: Nearest, found: Nearest) -> Nearest:
        return merged(kept, found, self._depth)

    def merge_accumulators(self, accumulators: Iterable[Nearest]) -> Nearest:
        kept = self.create_accumulator()
        for found in accumulators:
            kept = merged(kept, found, self._depth)
        return kept

    def extract_output(self, kept: Nearest) -> Nearest:
        return kept


def merged(one: Nearest, other: Nearest, depth: int) -> Nearest:
    """The nearest of two searches; of equal cosines, the lower number goes first.

    Args:
        one: Numbers and cosines, `(n, k)`.
        other: The same, of any `k`.
        depth: int. How many are kept.

    Example:

    ```python
    merged(of_one_shard, of_another, depth=100)
    ```
    """
    numbers, cosines = (np.concatenate(x, axis=1) for x in zip(one, other, strict=True))
    order = np.lexsort((numbers, -cosines), axis=1)[:, :depth]
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(cosines, order, 1)


def _tasks(distinct: tuple[Shard, np.ndarray], anchors: Iterable[Shard]) -> Any:
    candidates, repeated = distinct
    for shard in anchors:
        yield (shard.number, candidates.number), (shard, candidates, repeated)


def _search(
    group: tuple[Any, dict[str, Iterable[Any]]],
    anchors_about: EmbeddingsAbout,
    candidates_about: EmbeddingsAbout,
    depth: int,
) -> Iterator[tuple[int, Nearest]]:
    _, found = group
    [(anchors, candidates, repeated)] = found["task"]
    excluded = np.array(list(found["excluded"]), np.int64).reshape(-1, 2)
    for rows, _ in read_rows(anchors, anchors_about):
        if not len(rows.numbers):
            continue
        blocks = {int(n): _empty(depth) for n in np.unique(rows.numbers // BLOCK)}
        for part, _ in read_rows(
            candidates, candidates_about, skip=repeated, at_once=_CANDIDATES
        ):
            if not len(part.numbers):
                continue
            for number in blocks:
                of_block = np.flatnonzero(rows.numbers // BLOCK == number)
                near = _nearest(rows, of_block, part, excluded, depth)
                places = rows.numbers[of_block] - number * BLOCK
                kept = tuple(array[places] for array in blocks[number])
                # mypy: a tuple of two.
                better = merged((kept[0], kept[1]), near, depth)
                for array, new in zip(blocks[number], better, strict=True):
                    array[places] = new
            count("cosines", len(rows.numbers) * len(part.numbers))
        yield from blocks.items()


def _empty(depth: int) -> Nearest:
    return np.full((BLOCK, depth), -1, np.int64), np.full((BLOCK, depth), NONE)


def _nearest(
    rows: Rows, chosen: np.ndarray, part: Rows, excluded: np.ndarray, depth: int
) -> Nearest:
    numbers = rows.numbers[chosen]
    here = np.isin(excluded[:, 0], numbers) & np.isin(excluded[:, 1], part.numbers)
    anchors, candidates = excluded[here].T
    more = np.unique(anchors, return_counts=True)[1].max(initial=0)
    places, cosines = top_k(rows.vectors[chosen], part.vectors, depth + int(more))
    found = part.numbers[places]
    for anchor, candidate in zip(
        np.searchsorted(numbers, anchors), candidates, strict=True
    ):
        cosines[anchor, found[anchor] == candidate] = NONE
    return found, cosines
