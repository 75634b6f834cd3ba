"""Pairs of anchors and positives in shards, and what is no negative of an anchor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from simcse_tf.pipelines.counting import count
from simcse_tf.pipelines.embedding_shards import BadRow, Shard, Shards, read_rows
from simcse_tf.pipelines.repeated_texts import digest
from simcse_tf.search.mining import pair_cosines

# A text's row: its number, its text, its embedding.
_Row = tuple[int, str, np.ndarray]


class Pair(NamedTuple):
    """An anchor and its positive.

    Attributes:
        number: Of the anchor's row.
        anchor: Its text.
        positive: Of the row with the same id.
        cosine: Of the two.

    Example:

    ```python
    Pair(0, "A man plays.", "He plays.", 0.91)
    ```
    """

    number: int
    anchor: str
    positive: str
    cosine: float


class TextRows(beam.DoFn):
    """Reads shards: `(id, (number, text, embedding))`, and `bad` rows.

    Args:
        shards: Those that are read.

    Example:

    ```python
    files | beam.ParDo(TextRows(shards)).with_outputs("bad", main="rows")
    ```
    """

    def __init__(self, shards: Shards):
        self._about = shards.about

    def process(self, shard: Shard) -> Iterator[Any]:
        for rows, bad in read_rows(shard, self._about, texts=True):
            count("bad_rows", len(bad))
            yield from (beam.pvalue.TaggedOutput("bad", row) for row in bad)
            values = zip(rows.numbers.tolist(), rows.texts, rows.vectors, strict=True)
            yield from zip(rows.ids, values, strict=True)


class Pairs(beam.DoFn):
    """Rows of one id, `anchors` and `positives`, to a `Pair`, or to `bad` rows.

    Args:
        anchors: The anchors' shards.
        positives: The positives' shards.

    Example:

    ```python
    sides | beam.CoGroupByKey() | beam.ParDo(Pairs(anchors, positives))
    ```
    """

    def __init__(self, anchors: Shards, positives: Shards):
        self._shards = {"anchor": anchors, "positive": positives}

    def process(self, group: tuple[str, dict[str, Iterable[_Row]]]) -> Iterator[Any]:
        id, found = group
        anchors, positives = list(found["anchors"]), list(found["positives"])
        if len(anchors) == len(positives) == 1:
            (number, anchor, one), (_, positive, other) = *anchors, *positives
            [cosine] = pair_cosines(one[None], other[None]).tolist()
            count("pairs")
            yield Pair(number, anchor, positive, cosine)
            return
        reason = f"its id has {len(anchors)} anchors and {len(positives)} positives"
        rows = [("anchor", row) for row in anchors]
        rows += [("positive", row) for row in positives]
        count("bad_rows", len(rows))
        for side, (number, *_) in rows:
            shard = next(
                shard
                for shard in reversed(self._shards[side].files)
                if shard.first <= number
            )
            bad = BadRow(shard.path, number - shard.first, id, reason)
            yield beam.pvalue.TaggedOutput("bad", bad)


def no_negatives(pairs: Any, texts: Any) -> Any:
    """The rows of candidates that say what an anchor or one of its positives does.

    Args:
        pairs: Collection of `Pair`.
        texts: Collection of a digest and the rows that have the text, as
            `TextDigests` yields them, grouped.

    Returns:
        Collection of an anchor's number and the number of a candidate.

    Example:

    ```python
    excluded = no_negatives(pairs, texts)
    ```
    """
    said = (
        pairs
        | "By anchor" >> beam.Map(_by_anchor)
        | "Pairs of anchors" >> beam.GroupByKey()
        | "Said" >> beam.FlatMap(_said)
    )
    candidates = texts | "First rows" >> beam.Map(lambda g: (g[0], min(g[1])[0]))
    return (
        {"anchors": said, "candidate": candidates}
        | "Said by candidates" >> beam.CoGroupByKey()
        | "No negatives" >> beam.FlatMap(_no_negatives)
    )


def _by_anchor(pair: Pair) -> tuple[bytes, tuple[int, bytes]]:
    return digest(pair.anchor), (pair.number, digest(pair.positive))


def _said(
    group: tuple[bytes, Iterable[tuple[int, bytes]]],
) -> Iterator[tuple[bytes, int]]:
    anchor, pairs = group
    said = {anchor, *(positive for _, positive in pairs)}
    # Of an anchor that is there with several positives, none is a negative.
    for number, _ in pairs:
        for text in said:
            yield text, number


def _no_negatives(
    group: tuple[bytes, dict[str, Iterable[int]]],
) -> Iterator[tuple[int, int]]:
    _, found = group
    for candidate in found["candidate"]:
        for anchor in found["anchors"]:
            yield anchor, candidate
