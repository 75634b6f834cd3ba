"""Files of embeddings, as `encode` and `pipeline embed` write them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.embedding_files import (
    EmbeddingsAbout,
    embedding_column,
    embedding_schema,
)


def unit_rows(rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Random vectors of unit length, float32."""
    return l2_normalize(np.random.default_rng(seed).normal(size=(rows, dim)))


def write_shards(
    directory,
    texts,
    vectors,
    shards: int = 1,
    ids=None,
    fingerprint: str = "a" * 64,
    model: str = "runs/mine/best",
    prompt: str = "",
    row_group: int = 7,
    metadata=(),
) -> str:
    """Writes `shards` files, and returns their glob.

    `texts=None` leaves the texts out. `metadata` has the columns of each shard, by
    their names.
    """
    directory.mkdir(parents=True, exist_ok=True)
    about = EmbeddingsAbout(model, fingerprint, vectors.shape[1], prompt=prompt)
    ids = list(map(str, range(len(vectors)))) if ids is None else ids
    places = np.array_split(np.arange(len(vectors)), shards)
    for number, part in enumerate(places):
        columns = [pa.array([ids[n] for n in part], pa.string())]
        if texts is not None:
            columns.append(pa.array([texts[n] for n in part], pa.string()))
        columns.append(
            embedding_column(about.encoded(vectors[part].astype(np.float32)))
        )
        own = metadata[number] if metadata else {}
        more = {name: pa.array(values) for name, values in own.items()}
        fields = [pa.field(name, column.type) for name, column in more.items()]
        schema = embedding_schema(about, texts is not None, fields)
        pq.write_table(
            pa.Table.from_arrays([*columns, *more.values()], schema=schema),
            directory / f"part-{number:05}-of-{shards:05}.parquet",
            row_group_size=row_group,
        )
    return str(directory / "*.parquet")
