"""The lists of a large index, filled by many workers and joined."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from simcse_tf.core.atomic import atomic_write
from simcse_tf.indexing import candidates as kinds
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.list_files import fill_lists, join_lists, learn_lists
from simcse_tf.indexing.manifest import Manifest
from simcse_tf.indexing.parts import with_candidates
from simcse_tf.pipelines.running import run_pipeline

_LEARNED = "learned.faiss"
_ROWS = 16_384


def with_joined_lists(
    place: Path, manifest: Manifest, options: PipelineOptions
) -> Manifest:
    """A manifest with candidates for its rows, as `with_candidates` returns it.

    Those of `"ivfpq"` are filled by workers, a segment each. A graph is built here: it
    is for as many rows as one process has in an hour.

    Args:
        place: The index, on a disk that all workers have.
        manifest: What it is to be.
        options: Beam's.

    Raises:
        OSError: If they cannot be written.
        UserError: If they cannot be built.

    Example:

    ```python
    with_joined_lists(place, manifest, options).candidates.kind  # "ivfpq"
    ```
    """

    def build(
        path: Path,
        blocks: kinds.Blocks,
        rows: int,
        kind: str,
        parameters: dict[str, Any],
    ) -> None:
        if kind != "ivfpq":
            kinds.build(path, blocks, rows, kind, parameters)
            return
        dimension = manifest.dimension
        learn_lists(path.parent / _LEARNED, blocks, rows, dimension, parameters)
        parts = [
            path.parent / f"part_{number}.faiss"
            for number in range(len(manifest.segments))
        ]
        run_pipeline(lambda pipeline: _fill(pipeline, place, manifest, parts), options)
        join_lists(path, parts)
        for left in (*parts, path.parent / _LEARNED):
            left.unlink()

    return with_candidates(place, manifest, build)


def _fill(
    pipeline: beam.Pipeline, place: Path, manifest: Manifest, parts: list[Path]
) -> None:
    about = manifest.model_dump()
    (
        pipeline
        | "Segments" >> beam.Create([(n, str(path)) for n, path in enumerate(parts)])
        | "Spread" >> beam.Reshuffle()
        | "Fill lists" >> beam.Map(_filled, str(place), about)
    )


def _filled(part: tuple[int, str], place: str, about: dict[str, Any]) -> None:
    number, path = part
    index = Index(Path(place), Manifest.model_validate(about))
    segment = index.segments[number]
    rows = len(segment.vectors)
    blocks = (
        index.vectors(segment.first + np.arange(start, min(start + _ROWS, rows)))
        for start in range(0, rows, _ROWS)
    )
    learned = Path(path).parent / _LEARNED
    with atomic_write(path) as temporary:
        fill_lists(temporary, os.fspath(learned), blocks, segment.first)
