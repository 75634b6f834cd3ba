"""Rows that repeat the text of an earlier one, in shards of embeddings."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from simcse_tf.pipelines.counting import count
from simcse_tf.pipelines.embedding_shards import Shard, Shards, read_rows

# 64 bits would be too few: among a billion texts, two may well share them.
_DIGEST_BYTES = 16


class Repeat(NamedTuple):
    """A row that repeats a text, and the first one that has it.

    Example:

    ```python
    Repeat(number=7, id="7", first=2, first_id="2")
    ```
    """

    number: int
    id: str
    first: int
    first_id: str


def digest(text: str) -> bytes:
    """What is the same for two texts if they are the same.

    Example:

    ```python
    digest("A man plays.")
    ```
    """
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def shards_of(pipeline: beam.Pipeline, shards: Shards, name: str) -> Any:
    """A collection of shards, spread over the workers.

    Args:
        pipeline: The pipeline.
        shards: The shards.
        name: string. What the step is called.

    Example:

    ```python
    shards_of(pipeline, shards, "Shards") | beam.ParDo(TextDigests(shards))
    ```
    """
    return (
        pipeline
        | name >> beam.Create(list(shards.files))
        | f"{name} spread" >> beam.Reshuffle()
    )


class TextDigests(beam.DoFn):
    """Reads shards: `(digest, (row's number, id))`, and `bad` rows.

    Where the shards have no texts, the embeddings take their place.

    Args:
        shards: Those that are read.

    Example:

    ```python
    read = files | beam.ParDo(TextDigests(shards)).with_outputs("bad", main="digests")
    ```
    """

    def __init__(self, shards: Shards):
        self._about, self._with_text = shards.about, shards.with_text

    def process(self, shard: Shard) -> Iterator[Any]:
        for rows, bad in read_rows(shard, self._about, texts=self._with_text):
            count("rows", len(rows.ids) + len(bad))
            count("bad_rows", len(bad))
            yield from (beam.pvalue.TaggedOutput("bad", row) for row in bad)
            keys: Iterable[bytes]
            if self._with_text:
                keys = map(digest, rows.texts)
            else:
                keys = (vector.tobytes() for vector in rows.vectors)
            yield from zip(
                keys, zip(rows.numbers.tolist(), rows.ids, strict=True), strict=True
            )


def repeats(group: tuple[bytes, Iterable[tuple[int, str]]]) -> Iterator[Repeat]:
    """The rows of one text but the first.

    Args:
        group: What `TextDigests` yields, grouped by key.

    Example:

    ```python
    list(repeats((digest("a"), [(3, "x"), (0, "y")])))  # [Repeat(3, "x", 0, "y")]
    ```
    """
    _, rows = group
    # Twice through them, and none is kept: one text may have any number of rows.
    first, first_id = min(rows)
    for number, id in rows:
        if number != first:
            yield Repeat(number, id, first, first_id)


def with_rows(shards: Any, rows: Any, firsts: tuple[int, ...], name: str) -> Any:
    """Brings together shards and numbers of their rows.

    Args:
        shards: Collection of `Shard`.
        rows: Collection of row numbers.
        firsts: As in `Shards`.
        name: string. What the step is called.

    Returns:
        Collection of a `Shard` and an int64 array, ascending.

    Example:

    ```python
    with_rows(files, numbers, shards.firsts, "Distinct rows")
    ```
    """
    by_shard = shards | f"{name}: shards" >> beam.Map(lambda shard: (shard[0], shard))
    numbers = rows | f"{name}: rows" >> beam.Map(
        lambda number: (shard_of(number, firsts), number)
    )
    return (
        {"shard": by_shard, "rows": numbers}
        | f"{name}: together" >> beam.CoGroupByKey()
        | f"{name}: sorted" >> beam.Map(_sorted)
    )


def shard_of(number: int, firsts: tuple[int, ...]) -> int:
    """The number of the shard that a row is in.

    Args:
        number: int. The row's.
        firsts: As in `Shards`.

    Example:

    ```python
    shard_of(7, (0, 5, 10))  # 1
    ```
    """
    return bisect_right(firsts, number) - 1


def _sorted(group: tuple[int, dict[str, Iterable[Any]]]) -> tuple[Shard, np.ndarray]:
    _, found = group
    [shard] = found["shard"]
    return shard, np.sort(np.fromiter(found["rows"], np.int64))
