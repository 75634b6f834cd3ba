"""Building an index from files of embeddings with many workers."""

from __future__ import annotations

import os
from collections.abc import Sequence

from simcse_tf.indexing.changes import building
from simcse_tf.indexing.embedded_sources import EmbeddingFiles
from simcse_tf.indexing.manifest import Candidates, Manifest, write_manifest
from simcse_tf.indexing.parts import check_candidates
from simcse_tf.indexing.vectors import Dtype
from simcse_tf.indexing.writing import clean
from simcse_tf.pipelines.embedding_shards import open_shards
from simcse_tf.pipelines.index_lists import with_joined_lists
from simcse_tf.pipelines.index_segments import (
    Segments,
    segments_of,
    write_segments,
    written_segments,
)
from simcse_tf.pipelines.running import options_of, run_pipeline


def build_in_segments(
    directory: str | os.PathLike[str],
    patterns: Sequence[str],
    flags: Sequence[str],
    *,
    dtype: Dtype = "float32",
    kind: str | None = None,
    metadata: Sequence[str] | None = None,
    replace: bool = False,
) -> tuple[Manifest, int]:
    """Writes an index, whole or not at all, with a segment for each file.

    After a kill, the next call with the same files goes on where it was.

    Args:
        directory: The index, on a disk that all workers have.
        patterns: Files of embeddings, or globs.
        flags: Beam's, as for `options_of`.
        dtype: What embeddings are stored as. Defaults to `"float32"`.
        kind: Optional string. Of the candidates. Defaults to `None`: by the number of
            rows.
        metadata: Optional. The columns that come along. Defaults to `None`: all others.
        replace: bool. Whether an index that is there is replaced.

    Returns:
        What the index is, and how many segments an earlier try had written.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    build_in_segments("wiki.index", ["embeddings/*.parquet"], [])[0].rows
    ```
    """
    options = options_of(flags)
    shards = open_shards("--embeddings", patterns)
    source = EmbeddingFiles([shard.path for shard in shards.files], metadata)
    candidates = Candidates(kind=kind or "flat", asked_for=kind is not None)
    check_candidates(candidates, shards.rows)
    with building(directory, replace) as (place, before):
        generation = (before.generation if before else 0) + 1
        files = segments_of([shard.path for shard in shards.files], generation)
        how = Segments(str(place), dtype, metadata)
        counters = run_pipeline(
            lambda pipeline: write_segments(pipeline, files, how), options
        )
        segments, columns = written_segments(place, files)
        manifest = Manifest(
            generation=generation,
            **vars(source.origin),
            dtype=dtype,
            ids_given=True,
            has_texts=source.has_texts,
            columns=columns,
            segments=segments,
            candidates=candidates,
        )
        manifest = with_joined_lists(place, manifest, options)
        write_manifest(place, manifest)
        clean(place, manifest)
    return manifest, counters.get("segments_again", 0)
