"""Choosing hard negatives among the nearest candidates, and writing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from simcse_tf.datasets.source import COLUMNS
from simcse_tf.pipelines.counting import count
from simcse_tf.pipelines.embedding_shards import Shards, read_rows
from simcse_tf.pipelines.mining_pairs import Pair
from simcse_tf.pipelines.nearest_candidates import BLOCK, NONE, Nearest
from simcse_tf.pipelines.part_files import part_name, write_json_lines
from simcse_tf.pipelines.repeated_texts import shard_of
from simcse_tf.search.mining import Rule, chosen

MINED_FILE = "mined"


def write_mined(
    pairs: Any,
    nearest: Any,
    candidate_files: Any,
    anchors: Shards,
    candidates: Shards,
    rule: Rule,
    directory: str,
) -> Any:
    """Writes pairs with their hard negatives: a file for each shard of anchors.

    Args:
        pairs: Collection of `Pair`.
        nearest: As `nearest_candidates` returns.
        candidate_files: Collection of the candidates' `Shard`.
        anchors: All shards of anchors.
        candidates: All shards of candidates.
        rule: A `Rule`.
        directory: Where the files are written.

    Example:

    ```python
    write_mined(pairs, nearest, files, anchors, candidates, Rule(), "mined")
    ```
    """
    of_block = pairs | "Block of pair" >> beam.Map(lambda p: (p[0] // BLOCK, p))
    negatives = (
        {"pairs": of_block, "nearest": nearest}
        | "Pairs with nearest" >> beam.CoGroupByKey()
        | "Choose" >> beam.FlatMap(_choose, rule, candidates.firsts)
    )
    by_shard = candidate_files | "Candidates by shard" >> beam.Map(lambda s: (s[0], s))
    texts = (
        {"shard": by_shard, "wanted": negatives}
        | "Shards with chosen" >> beam.CoGroupByKey()
        | "Texts of chosen" >> beam.FlatMap(_texts, candidates, anchors.firsts)
    )
    of_shard = pairs | "Shard of pair" >> beam.Map(
        lambda pair, firsts: (shard_of(pair[0], firsts), pair), anchors.firsts
    )
    return (
        {"pairs": of_shard, "negatives": texts}
        | "Pairs with negatives" >> beam.CoGroupByKey()
        | "Write mined" >> beam.Map(_write, len(anchors.files), rule, directory)
    )


def _choose(
    group: tuple[int, dict[str, Iterable[Any]]], rule: Rule, firsts: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """For each negative its shard, and its number, the anchor's and its rank."""
    _, found = group
    nearest: list[Nearest] = list(found["nearest"])
    for pair in found["pairs"] if nearest else ():
        place = pair.number % BLOCK
        numbers, cosines = (array[place] for array in nearest[0])
        there = cosines > NONE
        mined = chosen(
            numbers[there], cosines[there], (), pair.cosine, rule, pair.number
        )
        for rank, row in enumerate(mined.rows):
            yield shard_of(row, firsts), (row, pair.number, rank)


def _texts(
    group: tuple[int, dict[str, Iterable[Any]]],
    candidates: Shards,
    firsts: tuple[int, ...],
) -> Iterator[tuple[int, tuple[int, int, str]]]:
    """For each negative the anchor's shard, and its number, the rank and the text."""
    _, found = group
    wanted = np.array(sorted(found["wanted"]), np.int64).reshape(-1, 3)
    if not len(wanted):
        return
    [shard] = found["shard"]
    for rows, _ in read_rows(shard, candidates.about, texts=True):
        if not len(rows.numbers):
            continue
        first, end = np.searchsorted(
            wanted[:, 0], [rows.numbers[0], rows.numbers[-1] + 1]
        )
        places = np.searchsorted(rows.numbers, wanted[first:end, 0])
        for place, (_, anchor, rank) in zip(
            places.tolist(), wanted[first:end].tolist(), strict=True
        ):
            yield shard_of(anchor, firsts), (anchor, rank, rows.texts[place])


def _write(
    group: tuple[int, dict[str, Iterable[Any]]],
    parts: int,
    rule: Rule,
    directory: str,
) -> None:
    shard, found = group
    pairs: list[Pair] = sorted(found["pairs"])
    negatives: dict[int, list[str]] = {pair.number: [] for pair in pairs}
    for anchor, _, text in sorted(found["negatives"]):
        negatives[anchor].append(text)
    anchor_name, positive_name, negative_name = COLUMNS
    rows = [
        {
            anchor_name: pair.anchor,
            positive_name: pair.positive,
            negative_name: negatives[pair.number],
        }
        for pair in pairs
    ]
    write_json_lines(part_name(directory, MINED_FILE, shard, parts, ".jsonl"), rows)
    found_by = [len(texts) for texts in negatives.values()]
    count("full", found_by.count(rule.negatives))
    count("without", found_by.count(0))
