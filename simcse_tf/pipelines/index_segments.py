"""Segments of an index, written by workers: one for each file of embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow.parquet as pq

from simcse_tf.core.atomic import publish, remove_directory, workplace
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shown, write_json
from simcse_tf.core.regular_files import is_there
from simcse_tf.encoding.column_types import ColumnType, ColumnTypes
from simcse_tf.indexing.embedded_sources import EmbeddingFiles
from simcse_tf.indexing.manifest import Segment
from simcse_tf.indexing.segment_writer import SegmentWriter
from simcse_tf.indexing.vectors import Dtype
from simcse_tf.indexing.writing import SEGMENTS
from simcse_tf.pipelines.counting import count

# Beside a segment until a manifest names it: what it was made from, and its files.
_ABOUT = "segment.json"


class File(NamedTuple):
    """A file of embeddings, and the name of its segment.

    Example:

    ```python
    File("embeddings/part-00000.parquet", "000001_000001")
    ```
    """

    path: str
    segment: str


class Segments(NamedTuple):
    """How segments are written.

    Attributes:
        place: The index, as all workers see it.
        dtype: What embeddings are stored as.
        metadata: The columns that come along; `None`: all others.

    Example:

    ```python
    Segments("/indexes/wiki.index.partial", "int8", None)
    ```
    """

    place: str
    dtype: Dtype
    metadata: Sequence[str] | None


def segments_of(files: Sequence[str], generation: int) -> list[File]:
    """The segments of some files, in their order.

    Args:
        files: Their paths.
        generation: int. Of the index that is to be.

    Example:

    ```python
    segments_of(["a.parquet"], 1)  # [File("a.parquet", "000001_000001")]
    ```
    """
    return [
        File(path, f"{generation:06d}_{number:06d}")
        for number, path in enumerate(files, start=1)
    ]


def write_segments(
    pipeline: beam.Pipeline, files: Sequence[File], how: Segments
) -> Any:
    """Writes a segment for each file; one that an earlier try has written stays.

    Args:
        pipeline: The pipeline.
        files: The files.
        how: How.

    Raises:
        UserError: In a worker, if a row is bad or an id is there twice.

    Example:

    ```python
    write_segments(pipeline, files, Segments(place, "float32", None))
    ```
    """
    spread = (
        pipeline | "Files" >> beam.Create(list(files)) | "Spread" >> beam.Reshuffle()
    )
    (
        spread
        | "Ids" >> beam.FlatMap(_ids)
        | "Rows of ids" >> beam.GroupByKey()
        | "Check ids" >> beam.Map(_check_id)
    )
    columns = (
        spread
        | "Types" >> beam.Map(_columns, how.metadata)
        | "Types of all" >> beam.CombineGlobally(common_columns)
    )
    return spread | "Write segments" >> beam.Map(
        _write, how, beam.pvalue.AsSingleton(columns)
    )


def written_segments(
    place: Path, files: Iterable[File]
) -> tuple[tuple[Segment, ...], dict[str, ColumnType]]:
    """What the workers have written, and the types of the metadata's columns.

    Args:
        place: The index.
        files: As for `write_segments`, which has ended.

    Example:

    ```python
    segments, columns = written_segments(place, files)
    ```
    """
    segments, columns = [], {}
    for file in files:
        about = read_json(place / SEGMENTS / file.segment / _ABOUT)
        segments.append(Segment.model_validate(about["segment"]))
        columns = about["columns"]
    # A file without a row is no part of an index.
    return tuple(segment for segment in segments if segment.rows), columns


def common_columns(
    found: Iterable[Mapping[str, ColumnType]],
) -> dict[str, ColumnType]:
    """The types that hold the values of several files.

    Args:
        found: The types of each. `"int"` and `"float"` together are `"float"`.

    Raises:
        UserError: If no type holds those of two.

    Example:

    ```python
    common_columns([{"stars": "int"}, {"stars": "float"}])  # {"stars": "float"}
    ```
    """
    common: dict[str, ColumnType] = {}
    for columns in found:
        for name, kind in columns.items():
            before = common.setdefault(name, kind)
            if before == kind:
                continue
            if {before, kind} != {"int", "float"}:
                raise UserError(
                    f"--embeddings: expected one type in the column {name} of all "
                    f"files, received {before} and {kind}"
                )
            common[name] = "float"
    # In an order of its own: that of the workers is left to chance.
    return dict(sorted(common.items()))


def _ids(file: File) -> Iterator[tuple[str, tuple[str, int]]]:
    for row, record in enumerate(EmbeddingFiles([file.path], []).records(), start=1):
        yield record.id, (file.path, row)


def _check_id(group: tuple[str, Iterable[tuple[str, int]]]) -> None:
    id, rows = group
    (path, row), *others = sorted(rows)
    for other, other_row in others:
        raise UserError(
            f"{path}, row {row}, and {other}, row {other_row}, both have the id "
            f"{shown(id)}: expected ids of their own"
        )


def _columns(file: File, metadata: Sequence[str] | None) -> dict[str, ColumnType]:
    types = ColumnTypes({})
    source = _source(file, metadata)
    for row, record in enumerate(source.records(), start=1):
        if not record.metadata:
            break
        types.observe(record.metadata, f"{file.path}, row {row}")
    return types.types


def _write(file: File, how: Segments, columns: dict[str, ColumnType]) -> None:
    source = _source(file, how.metadata)
    final = Path(how.place, SEGMENTS, file.segment)
    key = [source.key, how.dtype, columns]
    if is_there(final / _ABOUT):
        if read_json(final / _ABOUT)["key"] == key:
            count("segments_again")
            return
        remove_directory(final)
    with workplace(final) as place:
        writer = SegmentWriter(
            place, file.segment, source, how.dtype, columns, progress=False
        )
        writer.write_records()
        segment = writer.write_embeddings()
        written = place / SEGMENTS / file.segment
        about = {"key": key, "segment": segment.model_dump(), "columns": columns}
        write_json(written / _ABOUT, about)
        try:
            publish(written, final)
        except FileExistsError:
            # Another worker had the same file.
            return
    count("segments")
    count("rows", segment.rows)


def _source(file: File, metadata: Sequence[str] | None) -> EmbeddingFiles:
    if metadata is not None:
        # Another file may have one that this one lacks.
        there = pq.read_schema(file.path).names
        metadata = [name for name in metadata if name in there]
    return EmbeddingFiles([file.path], metadata)
