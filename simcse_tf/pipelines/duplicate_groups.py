"""Groups of duplicates: who stays, who goes, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simcse_tf.encoding.embedding_files import ID, TEXT
from simcse_tf.pipelines.counting import count
from simcse_tf.pipelines.embedding_shards import Shard, Shards, read_rows
from simcse_tf.pipelines.near_rows import Member
from simcse_tf.pipelines.part_files import part_name, whole_part
from simcse_tf.pipelines.repeated_texts import Repeat, shard_of, with_rows
from simcse_tf.search.near_duplicates import representatives

KEPT, NEAR, REPEATED = "kept", "near", "same text"
GROUPS_FILE, KEPT_FILE = "groups", "kept"

_GROUPS = pa.schema(
    [
        pa.field("group", pa.int64(), False),
        pa.field("representative", pa.string(), False),
        pa.field("id", pa.string(), False),
        pa.field("cosine", pa.float64(), False),
        pa.field("kind", pa.string(), False),
    ]
)


class Grouped(NamedTuple):
    """A row, and the row that stands for it.

    Attributes:
        group: Number of the row that stays.
        representative: Its id.
        number: Of this row.
        id: Of this row.
        cosine: Of the two.
        kind: `KEPT`: this is the one that stays; `NEAR`; or `REPEATED`: its text is
            that of an earlier row.

    Example:

    ```python
    Grouped(2, "2", 7, "7", 0.97, NEAR)
    ```
    """

    group: int
    representative: str
    number: int
    id: str
    cosine: float
    kind: str


def grouped_rows(members: Any, repeats: Any, threshold: float) -> Any:
    """Puts every row that may be a duplicate into its group.

    Rows of a component are gone through in their order: one that is near a kept row
    before it goes, all others stay. A repeated text goes where the first one goes.

    Args:
        members: Collection of a component and a `Member`.
        repeats: Collection of `Repeat`.
        threshold: float. The cosine of near rows.

    Returns:
        Collection of `Grouped`. A group may have but the row that stays.

    Example:

    ```python
    rows = grouped_rows(members, repeated, 0.95)
    ```
    """
    fates = (
        members
        | "Members of components" >> beam.GroupByKey()
        | "Representatives" >> beam.FlatMap(_fates, threshold)
    )
    of_first = repeats | "By first" >> beam.Map(lambda repeat: (repeat[2], repeat))
    return (
        {"fate": fates, "repeats": of_first}
        | "Fates and repeats" >> beam.CoGroupByKey()
        | "Grouped" >> beam.FlatMap(_grouped)
    )


def write_groups(rows: Any, shards: Shards, directory: str) -> Any:
    """Writes groups of two and more rows: a file for each shard of rows that stay.

    Args:
        rows: Collection of `Grouped`.
        shards: All shards.
        directory: Where the files are written.

    Example:

    ```python
    write_groups(rows, shards, "deduplicated")
    ```
    """
    firsts = shards.firsts
    return (
        rows
        | "Shard of group" >> beam.Map(lambda row: (shard_of(row[0], firsts), row))
        | "Groups of shards" >> beam.GroupByKey()
        | "Write groups" >> beam.Map(_write_groups, len(firsts), directory)
    )


def write_kept(rows: Any, files: Any, shards: Shards, directory: str) -> Any:
    """Writes ids and texts of the rows that stay: a file for each shard.

    Args:
        rows: Collection of `Grouped`.
        files: Collection of `Shard`.
        shards: All shards.
        directory: Where the files are written.

    Example:

    ```python
    write_kept(rows, files, shards, "deduplicated")
    ```
    """
    gone = (
        rows
        | "Gone" >> beam.Filter(lambda row: row[5] != KEPT)
        | "Numbers of gone" >> beam.Map(lambda row: row[2])
    )
    return with_rows(files, gone, shards.firsts, "Gone rows") | "Write kept" >> (
        beam.Map(_write_kept, shards, directory)
    )


def _fates(
    component: tuple[int, Iterable[Member]], threshold: float
) -> Iterator[tuple[int, Grouped]]:
    _, found = component
    rows = sorted(found, key=lambda member: member.number)
    chosen, cosines = representatives(np.stack([r.vector for r in rows]), threshold)
    for row, place, cosine in zip(rows, chosen.tolist(), cosines.tolist(), strict=True):
        other = rows[place]
        kind = KEPT if other is row else NEAR
        yield (
            row.number,
            Grouped(other.number, other.id, row.number, row.id, cosine, kind),
        )


def _grouped(
    found: tuple[int, dict[str, Iterable[Any]]],
) -> Iterator[Grouped]:
    number, values = found
    repeats: list[Repeat] = sorted(values["repeats"])
    fates: list[Grouped] = list(values["fate"])
    if not fates:
        first = repeats[0].first_id
        fates = [Grouped(number, first, number, first, 1.0, KEPT)]
    [fate] = fates
    yield fate
    count("near_duplicates", int(fate.kind == NEAR))
    count("repeated_texts", len(repeats))
    for repeat in repeats:
        yield fate._replace(number=repeat.number, id=repeat.id, kind=REPEATED)


def _write_groups(
    found: tuple[int, Iterable[Grouped]], parts: int, directory: str
) -> None:
    shard, rows = found
    ordered = sorted(rows, key=lambda row: (row.group, row.number))
    sizes = np.unique([row.group for row in ordered], return_counts=True)
    real = set(sizes[0][sizes[1] > 1].tolist())
    count("groups", len(real))
    named = [row._asdict() for row in ordered if row.group in real]
    for row in named:
        del row["number"]
    with whole_part(
        part_name(directory, GROUPS_FILE, shard, parts, ".parquet")
    ) as path:
        pq.write_table(pa.Table.from_pylist(named, _GROUPS), path)


def _write_kept(found: tuple[Shard, np.ndarray], shards: Shards, directory: str) -> int:
    shard, gone = found
    path = part_name(directory, KEPT_FILE, shard.number, len(shards.files), ".parquet")
    names = [ID, *([TEXT] if shards.with_text else [])]
    schema = pa.schema([pa.field(name, pa.string(), False) for name in names])
    with whole_part(path) as file, pq.ParquetWriter(file, schema) as writer:
        for rows, _ in read_rows(shard, shards.about, shards.with_text, skip=gone):
            columns = [rows.ids, rows.texts][: len(names)]
            arrays = [pa.array(column, pa.string()) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count("kept", len(rows.ids))
    return shard.number
