"""Parquet files of embeddings, as pipelines read them: in shards, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.embedding_files import (
    EMBEDDING,
    ID,
    TEXT,
    EmbeddingsAbout,
    embeddings_about,
    stored_rows,
)

# Rows read at a time.
_AT_ONCE = 8192
# Files that are looked at, at a time: elsewhere, most of it is waiting.
_FILES_AT_ONCE = 8


class Shard(NamedTuple):
    """One file of embeddings.

    Attributes:
        number: Counted from 0, in the order of the files' names.
        path: Of the file.
        first: The number of its first row among the rows of all shards.
        rows: How many it has.

    Example:

    ```python
    shards.files[0].rows  # 65536
    ```
    """

    number: int
    path: str
    first: int
    rows: int


class Shards(NamedTuple):
    """Files of embeddings of one model.

    Attributes:
        about: What made them.
        files: The shards.
        with_text: Whether they have the texts.

    Example:

    ```python
    open_shards("--input", ["embeddings/*.parquet"]).firsts  # (0, 65536)
    ```
    """

    about: EmbeddingsAbout
    files: tuple[Shard, ...]
    with_text: bool

    @property
    def rows(self) -> int:
        """How many there are in all shards."""
        return sum(shard.rows for shard in self.files)

    @property
    def firsts(self) -> tuple[int, ...]:
        """The number of each shard's first row."""
        return tuple(shard.first for shard in self.files)


class Rows(NamedTuple):
    """Some rows of a shard.

    Attributes:
        numbers: int64 `(n,)`, counted over all shards.
        ids: Their ids.
        texts: Their texts; empty strings where there are none.
        vectors: float32 `(n, dim)`, of unit length.

    Example:

    ```python
    rows.where(rows.vectors[:, 0] > 0).ids
    ```
    """

    numbers: np.ndarray
    ids: list[str]
    texts: list[str]
    vectors: np.ndarray

    def where(self, chosen: np.ndarray) -> Rows:
        """Those of the rows that a bool array chooses."""
        [places] = np.nonzero(chosen)
        return Rows(
            self.numbers[places],
            [self.ids[place] for place in places],
            [self.texts[place] for place in places],
            self.vectors[places],
        )


class BadRow(NamedTuple):
    """A row that cannot be used, and why.

    Example:

    ```python
    BadRow("part.parquet", 7, "7", "the embedding is not finite")
    ```
    """

    file: str
    row: int
    id: str
    reason: str


def open_shards(
    flag: str, patterns: Sequence[str], like: Shards | None = None
) -> Shards:
    """Looks at all shards that some patterns name, before work that takes long.

    Args:
        flag: string. What a message calls them.
        patterns: Files or globs, on any file system that Beam knows.
        like: Optional. Shards of the model that these must be of, perhaps behind
            another prompt.

    Raises:
        UserError: If there are none, one is no file of embeddings, or two are of
            different models.

    Example:

    ```python
    open_shards("--input", ["gs://bucket/embeddings/*.parquet"]).rows
    ```
    """
    files: list[Shard] = []
    found: list[EmbeddingsAbout] = []
    first, with_text = 0, True
    paths = _matches(flag, patterns)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        looked_at = list(pool.map(_looked_at, paths))
    for path, (about, rows, has_text) in zip(paths, looked_at, strict=True):
        files.append(Shard(len(files), path, first, rows))
        found.append(about)
        first += rows
        with_text &= has_text
        _check_same(found[0], files[0].path, about, path)
        if about.prompt != found[0].prompt:
            raise UserError(
                f"{path}: embeddings behind the prompt {about.prompt!r}, but "
                f"{files[0].path}: behind {found[0].prompt!r}; expected one prompt"
            )
    if like is not None:
        _check_same(like.about, like.files[0].path, found[0], files[0].path)
    if not first:
        raise UserError(f"{flag}: expected embeddings, received files without a row")
    return Shards(found[0], tuple(files), with_text)


def read_rows(
    shard: Shard,
    about: EmbeddingsAbout,
    texts: bool = False,
    skip: np.ndarray | None = None,
    at_once: int = _AT_ONCE,
) -> Iterator[tuple[Rows, list[BadRow]]]:
    """Reads a shard, some thousands of rows at a time.

    Args:
        shard: The shard.
        about: What made it.
        texts: bool. Whether the texts are read. Defaults to `False`.
        skip: Optional int64 array, ascending: the numbers of rows to leave out.
        at_once: int. Rows read at a time, at most. Defaults to `8192`.

    Returns:
        Iterator of the good rows and the bad ones.

    Raises:
        UserError: If the file is damaged.

    Example:

    ```python
    for rows, bad in read_rows(shards.files[0], shards.about):
        print(rows.vectors.shape)
    ```
    """
    columns = [ID, EMBEDDING, *([TEXT] if texts else [])]
    first = shard.first
    for batch in _batches(shard, columns, at_once):
        numbers = np.arange(first, first + len(batch))
        first += len(batch)
        rows, reasons = _decoded(batch, numbers, about, texts)
        wanted = np.ones(len(numbers), bool)
        if skip is not None and len(skip):
            wanted = ~np.isin(numbers, skip)
        bad = [
            BadRow(shard.path, int(numbers[place]) - shard.first, rows.ids[place], why)
            for place, why in reasons.items()
        ]
        wanted[list(reasons)] = False
        yield (rows if wanted.all() else rows.where(wanted)), bad


def _matches(flag: str, patterns: Sequence[str]) -> list[str]:
    paths: set[str] = set()
    for pattern in patterns:
        try:
            [match] = FileSystems.match([pattern])
        except (BeamIOError, ValueError, OSError) as error:
            raise UserError(f"{flag}: cannot read {pattern}: {error}") from None
        if not match.metadata_list:
            raise UserError(f"{flag}: no file matches {pattern}")
        paths |= {metadata.path for metadata in match.metadata_list}
    return sorted(paths)


def _looked_at(path: str) -> tuple[EmbeddingsAbout, int, bool]:
    try:
        with FileSystems.open(path) as file:
            parquet = pq.ParquetFile(file)
            about = embeddings_about(parquet.schema_arrow, path)
            has_text = TEXT in parquet.schema_arrow.names
            return about, parquet.metadata.num_rows, has_text
    except (pa.ArrowException, BeamIOError, OSError) as error:
        raise _unreadable(path, error) from None


def _check_same(
    one: EmbeddingsAbout, one_path: str, other: EmbeddingsAbout, other_path: str
) -> None:
    if _model(one) != _model(other):
        raise UserError(
            f"{other_path}: embeddings of {_named(other)}, but {one_path}: of "
            f"{_named(one)}; expected one model's"
        )


def _model(about: EmbeddingsAbout) -> tuple[object, ...]:
    model = about.fingerprint or about.model
    return model, about.dimension, about.values, about.pooling, about.max_length


def _named(about: EmbeddingsAbout) -> str:
    mark = (about.fingerprint or "of no fingerprint")[:12]
    return f"{about.model} ({mark}, {about.dimension} dimensions, {about.values})"


def _batches(
    shard: Shard, columns: list[str], at_once: int
) -> Iterator[pa.RecordBatch]:
    try:
        with FileSystems.open(shard.path) as file:
            # Without `pre_buffer`, no more than a row group is held.
            parquet = pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
            if parquet.metadata.num_rows != shard.rows:
                raise UserError(
                    f"{shard.path}: expected {shard.rows} rows as at the start, "
                    f"received {parquet.metadata.num_rows}"
                )
            yield from parquet.iter_batches(at_once, columns=columns)
    except (pa.ArrowException, BeamIOError, OSError) as error:
        raise _unreadable(shard.path, error) from None


def _unreadable(path: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path}: expected a Parquet file of embeddings: {reason}")


def _decoded(
    batch: pa.RecordBatch, numbers: np.ndarray, about: EmbeddingsAbout, texts: bool
) -> tuple[Rows, dict[int, str]]:
    """All rows of a batch, and for those that are bad, why."""
    reasons: dict[int, str] = {}
    ids = [str(value or "") for value in batch.column(ID).to_pylist()]
    named = [""] * len(ids)
    if texts:
        found = batch.column(TEXT).to_pylist()
        named = [text or "" for text in found]
        reasons |= {n: "the text is null" for n, t in enumerate(found) if t is None}
    vectors, filled = _vectors(batch.column(EMBEDDING), about)
    finite = np.isfinite(vectors).all(axis=1)
    vectors = l2_normalize(np.where(finite[:, None], vectors, 0))
    for reason, bad in (
        ("the embedding is of length zero", ~vectors.any(axis=1)),
        ("the embedding is not finite", ~finite),
        ("the embedding is null, or a part of it", ~filled),
        ("the id is null or empty", np.array([not id for id in ids], bool)),
    ):
        reasons |= dict.fromkeys(np.flatnonzero(bad).tolist(), reason)
    return Rows(numbers, ids, named, vectors), reasons


def _vectors(column: pa.Array, about: EmbeddingsAbout) -> tuple[np.ndarray, np.ndarray]:
    filled = np.ones(len(column), bool)
    try:
        return about.decoded(stored_rows(column)).astype(np.float32), filled
    except ValueError:
        rows = column.to_pylist()
    filled = np.array([row is not None and None not in row for row in rows], bool)
    dtype, length = about.stored
    stored = np.zeros((len(rows), length), dtype)
    if filled.any():
        stored[filled] = stored_rows(column.filter(pa.array(filled)))
    return about.decoded(stored).astype(np.float32), filled
