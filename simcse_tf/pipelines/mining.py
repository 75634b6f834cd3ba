"""Hard negatives for anchors of any number among candidates of any number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import apache_beam as beam

from simcse_tf.core.errors import UserError
from simcse_tf.pipelines.dead_letters import DEAD_LETTERS_FILE, write_dead_letters
from simcse_tf.pipelines.embedding_shards import Shards, open_shards
from simcse_tf.pipelines.mined_rows import MINED_FILE, write_mined
from simcse_tf.pipelines.mining_pairs import Pairs, TextRows, no_negatives
from simcse_tf.pipelines.nearest_candidates import nearest_candidates
from simcse_tf.pipelines.part_files import begin, finish
from simcse_tf.pipelines.repeated_texts import (
    TextDigests,
    repeats,
    shards_of,
    with_rows,
)
from simcse_tf.pipelines.running import options_of, run_pipeline
from simcse_tf.search.mining import Rule

_COUNTERS = ("pairs", "full", "without", "bad_rows", "rows", "cosines")


class Inputs(NamedTuple):
    """Files of embeddings, or globs.

    Attributes:
        anchors: Of anchors.
        positives: Of their positives; a pair has one id.
        candidates: Of what may be a negative. Empty: the positives.

    Example:

    ```python
    Inputs(["anchors/*.parquet"], ["positives/*.parquet"])
    ```
    """

    anchors: Sequence[str]
    positives: Sequence[str]
    candidates: Sequence[str] = ()


def mine(
    inputs: Inputs, directory: str, rule: Rule, flags: Sequence[str]
) -> dict[str, int]:
    """Writes pairs with hard negatives, as `simcse_tf.mine` does.

    Args:
        inputs: What is read.
        directory: Where files are written.
        rule: A `Rule`.
        flags: Beam's, as for `options_of`.

    Returns:
        What was counted.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    mine(Inputs(["a/*.parquet"], ["p/*.parquet"]), "mined", Rule(), [])
    ```
    """
    options = options_of(flags)
    anchors = _opened("--anchors", inputs.anchors, None)
    positives = _opened("--positives", inputs.positives, anchors)
    candidates = positives
    if inputs.candidates:
        candidates = _opened("--candidates", inputs.candidates, anchors)
    begin("--output", directory, [MINED_FILE, DEAD_LETTERS_FILE])

    def build(pipeline: beam.Pipeline) -> None:
        _build(pipeline, anchors, positives, candidates, rule, directory)

    counted = run_pipeline(build, options)
    counters = {name: counted.get(name, 0) for name in _COUNTERS}
    about = {"model": anchors.about.model, "fingerprint": anchors.about.fingerprint}
    finish(directory, {**about, **rule._asdict(), **counters})
    return counters


def _opened(flag: str, patterns: Sequence[str], like: Shards | None) -> Shards:
    shards = open_shards(flag, patterns, like)
    if not shards.with_text:
        raise UserError(
            f"{flag}: expected files with the texts beside the embeddings, received "
            "one without"
        )
    return shards


def _build(
    pipeline: beam.Pipeline,
    anchors: Shards,
    positives: Shards,
    candidates: Shards,
    rule: Rule,
    directory: str,
) -> None:
    anchor_files = shards_of(pipeline, anchors, "Anchors")
    positive_files = shards_of(pipeline, positives, "Positives")
    candidate_files = shards_of(pipeline, candidates, "Candidates")

    sides, bad = {}, []
    for name, files, shards in (
        ("anchors", anchor_files, anchors),
        ("positives", positive_files, positives),
    ):
        read = files | f"Rows of {name}" >> beam.ParDo(TextRows(shards)).with_outputs(
            "bad", main="rows"
        )
        sides[name] = read.rows
        bad.append(read.bad)
    joined = (
        sides
        | "Rows of ids" >> beam.CoGroupByKey()
        | "Pairs"
        >> beam.ParDo(Pairs(anchors, positives)).with_outputs("bad", main="pairs")
    )
    read = candidate_files | "Texts of candidates" >> beam.ParDo(
        TextDigests(candidates)
    ).with_outputs("bad", main="digests")
    texts = read.digests | "Equal candidates" >> beam.GroupByKey()
    repeated = (
        texts
        | "Repeated candidates" >> beam.FlatMap(repeats)
        | "Numbers" >> beam.Map(lambda repeat: repeat[0])
    )
    distinct = with_rows(
        candidate_files, repeated, candidates.firsts, "Distinct candidates"
    )
    nearest = nearest_candidates(
        no_negatives(joined.pairs, texts), distinct, anchors, candidates, rule.depth
    )
    write_mined(
        joined.pairs, nearest, candidate_files, anchors, candidates, rule, directory
    )
    bad += [joined.bad, *([] if candidates is positives else [read.bad])]
    write_dead_letters(
        bad | "All bad rows" >> beam.Flatten(),
        [anchors, positives, candidates],
        directory,
    )
