"""Rows of all shards that hang together by near pairs, without comparing all pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from simcse_tf.encoding.embedding_files import EmbeddingsAbout
from simcse_tf.pipelines.counting import count
from simcse_tf.pipelines.embedding_shards import Shard, Shards, read_rows
from simcse_tf.pipelines.repeated_texts import shard_of
from simcse_tf.search.near_duplicates import near_pairs, nearest_cells

# A shard, and numbers of its rows.
ShardRows: TypeAlias = tuple[Shard, np.ndarray]
# Numbers of rows, whether this cell is the nearest of each, and their vectors.
_Members: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]

# So few rows are compared with each other, all with all.
_ONE_CELL = 4096
# Rows that are compared with all, to count what the cells miss.
_SAMPLED = 1000
_PIVOT_SEED, _SAMPLE_SEED = 1, 2


class Near(NamedTuple):
    """When rows are near, and how such pairs are found.

    Attributes:
        threshold: Their cosine is at least this much.
        cells: How many cells each row is looked for in.
        pivots: About how many cells there are; 1: all rows are in one.

    Example:

    ```python
    Near(threshold=0.95, cells=8, pivots=4000)
    ```
    """

    threshold: float
    cells: int
    pivots: int


def pivots_for(rows: int) -> int:
    """How many cells so many rows take, for the least work.

    Each row is compared with all pivots, and with the rows of some cells.

    Example:

    ```python
    pivots_for(1_000_000)  # 4000
    ```
    """
    return 1 if rows <= _ONE_CELL else round(4 * rows**0.5)


def near_components(distinct: Any, shards: Shards, near: Near) -> Any:
    """Finds near pairs, and which rows hang together by them.

    Cells are around rows drawn at random. Two rows are compared if the nearest cell of
    one is among the `near.cells` nearest of the other. The counters `sampled_pairs` and
    `sampled_pairs_missed` tell what that misses: near pairs of 1,000 rows drawn at
    random, which are compared with all others.

    Args:
        distinct: Collection of a `Shard` and the numbers of its rows that are left out.
        shards: All shards.
        near: A `Near`.

    Returns:
        Collection of the number of a row and that of its component's first row.

    Example:

    ```python
    labels = near_components(distinct, shards, Near(0.95, 8, 4000))
    ```
    """
    drawn = beam.pvalue.AsList(
        distinct | "Draw pivots" >> beam.FlatMap(_draw, shards.about, shards.rows, near)
    )
    return (
        distinct
        | "Into cells" >> beam.ParDo(_IntoCells(shards.about, near), drawn)
        | "Cells" >> beam.GroupByKey()
        | "Near pairs" >> beam.FlatMap(_pairs, near.threshold)
        | "Components" >> beam.CombineGlobally(SpanningForest())
        | "Rows of components" >> beam.FlatMap(_labels)
    )


class Member(NamedTuple):
    """A row of a component.

    Example:

    ```python
    Member(7, "7", vector)
    ```
    """

    number: int
    id: str
    vector: np.ndarray


def members(
    shards: Any, labels: Any, about: EmbeddingsAbout, firsts: tuple[int, ...]
) -> Any:
    """Reads the rows of components.

    Args:
        shards: Collection of `Shard`.
        labels: As `near_components` returns.
        about: What made the embeddings.
        firsts: As in `Shards`.

    Returns:
        Collection of a component's first row's number and a `Member`.

    Example:

    ```python
    members(files, labels, shards.about, shards.firsts) | beam.GroupByKey()
    ```
    """
    by_shard = shards | "Shards to label" >> beam.Map(lambda shard: (shard[0], shard))
    of_shard = labels | "Labels of shards" >> beam.Map(
        lambda label: (shard_of(label[0], firsts), label)
    )
    return (
        {"shard": by_shard, "labels": of_shard}
        | "Shards with labels" >> beam.CoGroupByKey()
        | "Members" >> beam.FlatMap(_members, about)
    )


class SpanningForest(beam.CombineFn):
    """Pairs of rows to `(m, 2)`: each row and the first one of its component.

    What is kept is 16 bytes a row that has a near one, however many pairs there are.

    Example:

    ```python
    pairs | beam.CombineGlobally(SpanningForest())
    ```
    """

    def create_accumulator(self) -> list[np.ndarray]:
        return []

    def add_input(self, kept: list[np.ndarray], pairs: np.ndarray) -> list[np.ndarray]:
        return self.merge_accumulators([kept, [pairs]])

    def merge_accumulators(
        self, accumulators: Iterable[list[np.ndarray]]
    ) -> list[np.ndarray]:
        parts = [part for accumulator in accumulators for part in accumulator]
        # As with a growing array: reduced only when it has doubled.
        largest = max(map(len, parts), default=0)
        if sum(map(len, parts)) > 2 * largest + _ONE_CELL:
            parts = [spanning_forest(np.concatenate(parts))]
        return parts

    def compact(self, kept: list[np.ndarray]) -> list[np.ndarray]:
        return [spanning_forest(np.concatenate(kept))] if len(kept) > 1 else kept

    def extract_output(self, kept: list[np.ndarray]) -> np.ndarray:
        return spanning_forest(np.concatenate([*kept, np.empty((0, 2), np.int64)]))


def spanning_forest(pairs: np.ndarray) -> np.ndarray:
    """The fewest pairs that join what some pairs join.

    Args:
        pairs: int64 `(m, 2)`.

    Returns:
        int64 `(r, 2)`: every number but the least of its component, and the least.

    Example:

    ```python
    spanning_forest(np.array([[1, 5], [5, 3], [7, 8]]))  # [[3, 1], [5, 1], [8, 7]]
    ```
    """
    rows, ends = np.unique(pairs, return_inverse=True)
    one, two = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), bool), (one, two)), shape=2 * (len(rows),))
    number, labels = connected_components(graph, directed=False)
    # `rows` ascend, so the first place of a label is its least row.
    _, first = np.unique(labels, return_index=True)
    least = rows[first[labels]] if number else rows
    return np.stack([rows, least], axis=1)[rows != least]


class _IntoCells(beam.DoFn):
    """Rows of a shard to `(cell, members)`."""

    def __init__(self, about: EmbeddingsAbout, near: Near):
        self._about, self._near = about, near
        self._drawn: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def process(
        self, distinct: ShardRows, drawn: Sequence[Any]
    ) -> Iterator[tuple[int, _Members]]:
        if self._drawn is None:
            self._drawn = _put_together(drawn)
        pivots, sampled, sample = self._drawn
        shard, left_out = distinct
        sample_cells = self._cells(sample, pivots)
        for rows, _ in read_rows(shard, self._about, skip=left_out):
            if not len(rows.numbers):
                continue
            cells = self._cells(rows.vectors, pivots)
            self._count_missed(rows, cells, sampled, sample, sample_cells)
            order = np.argsort(cells, axis=None, kind="stable")
            found, starts = np.unique(cells.ravel()[order], return_index=True)
            width = cells.shape[1]
            for cell, of_cell in zip(
                found.tolist(), np.split(order, starts[1:]), strict=True
            ):
                places = of_cell // width
                yield (
                    cell,
                    (rows.numbers[places], of_cell % width == 0, rows.vectors[places]),
                )

    def _cells(self, vectors: np.ndarray, pivots: np.ndarray) -> np.ndarray:
        if not len(pivots):
            return np.zeros((len(vectors), 1), np.int64)
        return nearest_cells(vectors, pivots, self._near.cells)

    def _count_missed(
        self,
        rows: Any,
        cells: np.ndarray,
        sampled: np.ndarray,
        sample: np.ndarray,
        sample_cells: np.ndarray,
    ) -> None:
        if not len(sampled):
            return
        near = rows.vectors @ sample.T >= self._near.threshold
        near &= rows.numbers[:, None] != sampled
        row, other = np.nonzero(near)
        met = (cells[row] == sample_cells[other, :1]).any(axis=1)
        met |= (sample_cells[other] == cells[row, :1]).any(axis=1)
        count("sampled_pairs", len(row))
        count("sampled_pairs_missed", int((~met).sum()))


def _draw(
    distinct: ShardRows, about: EmbeddingsAbout, total: int, near: Near
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The rows of a shard that are drawn: pivots and the sample."""
    shard, left_out = distinct
    shares = {"pivots": near.pivots / total, "sample": _SAMPLED / total}
    for rows, _ in read_rows(shard, about, skip=left_out):
        for seed, (name, share) in enumerate(shares.items(), _PIVOT_SEED):
            chosen = _uniform(rows.numbers, seed) < share
            if name == "pivots" and near.pivots == 1:
                chosen[:] = False
            if chosen.any():
                yield name, rows.numbers[chosen], rows.vectors[chosen]


def _uniform(numbers: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each row, the same at every try (SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = (numbers.astype(np.uint64) + np.uint64(seed << 56)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) / 2.0**64


def _put_together(
    drawn: Sequence[tuple[str, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pivots' vectors, the sample's numbers, its vectors; ordered by number."""
    [dim] = {vectors.shape[1] for _, _, vectors in drawn} or {0}
    parts = {}
    for name in ("pivots", "sample"):
        numbers = [np.empty(0, np.int64), *(n for kind, n, _ in drawn if kind == name)]
        vectors = [v for kind, _, v in drawn if kind == name]
        order = np.argsort(np.concatenate(numbers))
        parts[name] = (
            np.concatenate(numbers)[order],
            np.concatenate([np.empty((0, dim), np.float32), *vectors])[order],
        )
    return parts["pivots"][1], *parts["sample"]


def _pairs(
    group: tuple[int, Iterable[_Members]], threshold: float
) -> Iterator[np.ndarray]:
    _, parts = group
    numbers, at_home, vectors = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    # By number, for the same result at every try; those at home go first.
    order = np.lexsort((numbers, ~at_home))
    pairs = near_pairs(vectors[order], int(at_home.sum()), threshold)
    count("pairs_compared", int(at_home.sum()) * len(numbers))
    if len(pairs):
        yield spanning_forest(numbers[order][pairs])


def _labels(forest: np.ndarray) -> Iterator[tuple[int, int]]:
    for row, first in forest.tolist():
        yield row, first
    for first in np.unique(forest[:, 1]).tolist():
        yield first, first


def _members(
    group: tuple[int, dict[str, Iterable[Any]]], about: EmbeddingsAbout
) -> Iterator[tuple[int, Member]]:
    _, found = group
    labels = np.array(list(found["labels"]), np.int64).reshape(-1, 2)
    if not len(labels):
        return
    labels = labels[np.argsort(labels[:, 0])]
    [shard] = found["shard"]
    for rows, _ in read_rows(shard, about):
        places = np.flatnonzero(np.isin(rows.numbers, labels[:, 0]))
        of_row = labels[np.searchsorted(labels[:, 0], rows.numbers[places]), 1]
        for place, component in zip(places.tolist(), of_row.tolist(), strict=True):
            yield (
                component,
                Member(int(rows.numbers[place]), rows.ids[place], rows.vectors[place]),
            )
