"""The steps of `embed`: a shard is read, and what becomes of it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics.metric import Metrics

from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import writing_output
from simcse_tf.encoding.embedding_files import EmbeddingsAbout, embedding_schema
from simcse_tf.encoding.embedding_writers import (
    JSONL,
    PARQUET,
    write_jsonl,
    write_parquet,
)
from simcse_tf.encoding.records import Record
from simcse_tf.pipelines.files import whole_file
from simcse_tf.pipelines.job import Job
from simcse_tf.pipelines.row_formats import row_format
from simcse_tf.pipelines.rows import BadRow
from simcse_tf.pipelines.shards import Shard, check_unchanged

TFRECORD = "tfrecord"
SENTENCES, DUPLICATES, DEAD_LETTERS = "sentences", "duplicates", "dead letters"


class Read(NamedTuple):
    """The rows of a shard.

    Attributes:
        shard: Which one.
        records: Its good rows.
        bad: Its bad ones.

    Example:

    ```python
    Read(shard, [Record("a.txt:0", b"It rains.", {})], [])
    ```
    """

    shard: Shard
    records: list[Record]
    bad: list[BadRow]


class ReadShard(beam.DoFn):
    """Reads a shard: its rows, and their texts for `RunInference`.

    Example:

    ```python
    shards | beam.ParDo(ReadShard()) | RunInference(KeyedModelHandler(handler))
    ```
    """

    def process(self, shard: Shard) -> Iterator[tuple[Read, list[bytes]]]:
        """Reads one.

        Args:
            shard: Which one.

        Raises:
            UserError: If its file is another now.
        """
        part = shard.part
        check_unchanged(part.path, shard.stamp)
        rows = list(row_format(part.path).read(part))
        check_unchanged(part.path, shard.stamp)
        if len(rows) != part.rows:
            raise UserError(
                f"{part.path}: expected {part.rows} rows from row {part.first} on, "
                f"received {len(rows)}"
            )
        bad = [row for row in rows if isinstance(row, BadRow)]
        records = [
            # A place is not what another row has. A digest of the text would be.
            Record(row.id or f"{shard.name}:{row.number}", row.text, {})
            for row in rows
            if not isinstance(row, BadRow)
        ]
        yield Read(shard, records, bad), [record.text for record in records]


class WriteShard(beam.DoFn):
    """Writes what becomes of a shard: bad rows first, embeddings last.

    The file of the embeddings says that the shard is done.

    Args:
        job: Where to.
        about: What made the embeddings, and how they are written.
        format: string. One of `FORMATS`.
        with_text: bool. Whether texts are written beside them.

    Example:

    ```python
    embedded | beam.ParDo(WriteShard(job, about, "parquet", with_text=False))
    ```
    """

    def __init__(self, job: Job, about: EmbeddingsAbout, format: str, with_text: bool):
        # Without the shards: each that is written comes by itself.
        self._job = job._replace(files=(), shards=range(len(job.shards)))  # type: ignore[arg-type]
        self._about = about
        self._format = format
        self._with_text = with_text
        self._sentences = Metrics.counter("simcse_tf", SENTENCES)
        self._duplicates = Metrics.counter("simcse_tf", DUPLICATES)
        self._dead_letters = Metrics.counter("simcse_tf", DEAD_LETTERS)

    def process(self, embedded: tuple[Read, np.ndarray]) -> None:
        """Writes one.

        Args:
            embedded: The shard, and the embeddings of its good rows.

        Raises:
            UserError: If it cannot be written.
        """
        (shard, records, bad), embeddings = embedded
        with writing_output("--output", self._job.output):
            if bad:
                with whole_file(self._job.dead_letters_file(shard)) as path:
                    _write_bad(path, shard, bad)
            with whole_file(self._job.embeddings_file(shard)) as path:
                self._write(path, records, embeddings)
        self._sentences.inc(len(records))
        self._duplicates.inc(len(records) - len({record.text for record in records}))
        self._dead_letters.inc(len(bad))

    def _write(self, path: Path, records: list[Record], embeddings: np.ndarray) -> None:
        stored = self._about.encoded(embeddings)
        schema = embedding_schema(self._about, self._with_text)
        write = _WRITERS[self._format]
        # A block without rows is none.
        blocks = [(stored, records)] if records else []
        write(path, blocks, schema, len(records))


def _write_bad(path: Path, shard: Shard, bad: Sequence[BadRow]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in bad:
            letter = {"file": shard.name, "row": row.number, "reason": row.reason}
            file.write(json.dumps(letter, ensure_ascii=True) + "\n")


def _write_tfrecord(path: Path, blocks: Any, schema: Any, rows: int) -> None:
    """Records of `tf.train.Example`: `id`, `embedding`, and `text` if asked for."""
    import tensorflow as tf

    def text(value: bytes) -> Any:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def numbers(row: np.ndarray) -> Any:
        if row.dtype == np.float32:
            return tf.train.Feature(float_list=tf.train.FloatList(value=row))
        # `tf.io.decode_raw` reads them. As a list each would take up to ten bytes.
        return text(row.tobytes())

    with tf.io.TFRecordWriter(str(path)) as file:
        for stored, records in blocks:
            for row, record in zip(stored, records, strict=True):
                feature = {"id": text(record.id.encode()), "embedding": numbers(row)}
                if "text" in schema.names:
                    feature["text"] = text(record.text)
                features = tf.train.Features(feature=feature)
                example = tf.train.Example(features=features)
                file.write(example.SerializeToString())


_WRITERS: dict[str, Callable[..., None]] = {
    PARQUET: write_parquet,
    JSONL: write_jsonl,
    TFRECORD: _write_tfrecord,
}
FORMATS = tuple(_WRITERS)
