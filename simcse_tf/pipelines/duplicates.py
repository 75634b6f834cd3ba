"""Near duplicates among embeddings of any number, as one pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from simcse_tf.pipelines.dead_letters import DEAD_LETTERS_FILE, write_dead_letters
from simcse_tf.pipelines.duplicate_groups import (
    GROUPS_FILE,
    KEPT_FILE,
    grouped_rows,
    write_groups,
    write_kept,
)
from simcse_tf.pipelines.embedding_shards import Shards, open_shards
from simcse_tf.pipelines.near_rows import Near, members, near_components, pivots_for
from simcse_tf.pipelines.part_files import begin, finish
from simcse_tf.pipelines.repeated_texts import (
    TextDigests,
    repeats,
    shards_of,
    with_rows,
)
from simcse_tf.pipelines.running import options_of, run_pipeline

_COUNTERS = (
    "rows",
    "bad_rows",
    "repeated_texts",
    "near_duplicates",
    "groups",
    "kept",
    "pairs_compared",
    "sampled_pairs",
    "sampled_pairs_missed",
)


def find(
    patterns: Sequence[str],
    directory: str,
    threshold: float,
    cells: int,
    flags: Sequence[str],
    pivots: int | None = None,
) -> dict[str, int]:
    """Writes groups of duplicates, and the rows that stay.

    Args:
        patterns: Files of embeddings, or globs.
        directory: Where files are written.
        threshold: float. Cosine from which on rows are near.
        cells: int. How many each row is looked for in.
        flags: Beam's, as for `options_of`.
        pivots: Optional int. About how many cells there are. Defaults to what the rows
            need.

    Returns:
        What was counted.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    find(["embeddings/*.parquet"], "deduplicated", 0.95, 6, [])
    ```
    """
    options = options_of(flags)
    shards = open_shards("--input", patterns)
    begin("--output", directory, [GROUPS_FILE, KEPT_FILE, DEAD_LETTERS_FILE])
    near = Near(threshold, cells, pivots or pivots_for(shards.rows))

    def build(pipeline: beam.Pipeline) -> None:
        _build(pipeline, shards, near, directory)

    counted = run_pipeline(build, options)
    counters = {name: counted.get(name, 0) for name in _COUNTERS}
    about = {"model": shards.about.model, "fingerprint": shards.about.fingerprint}
    finish(directory, {**about, **near._asdict(), **counters})
    return counters


def _build(pipeline: beam.Pipeline, shards: Shards, near: Near, directory: str) -> None:
    files = shards_of(pipeline, shards, "Shards")
    read = files | "Texts" >> beam.ParDo(TextDigests(shards)).with_outputs(
        "bad", main="digests"
    )
    write_dead_letters(read.bad, [shards], directory)
    repeated = (
        read.digests
        | "Equal texts" >> beam.GroupByKey()
        | "Repeated texts" >> beam.FlatMap(repeats)
    )
    numbers = repeated | "Numbers" >> beam.Map(lambda repeat: repeat[0])
    distinct = with_rows(files, numbers, shards.firsts, "Distinct rows")
    labels = near_components(distinct, shards, near)
    rows = grouped_rows(
        members(files, labels, shards.about, shards.firsts), repeated, near.threshold
    )
    write_groups(rows, shards, directory)
    write_kept(rows, files, shards, directory)
