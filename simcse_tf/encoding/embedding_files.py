"""Parquet files of embeddings: what their columns are, and what made them.

| column | type |
|---|---|
| `id` | string |
| `text` | string; where it was asked for |
| `embedding` | fixed_size_list of float32, int8, or uint8 with eight bits each |
| any other | metadata of the row |

The schema's metadata has a key `simcse_tf`: JSON with the fields of `EmbeddingsAbout`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.quantization import (
    decode_binary,
    decode_int8,
    encode_binary,
    encode_int8,
    truncate,
)
from simcse_tf.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

ID, TEXT, EMBEDDING = "id", "text", "embedding"
FLOAT32, INT8, BINARY = "float32", "int8", "binary"
VALUES = (FLOAT32, INT8, BINARY)

_KEY = b"simcse_tf"


@dataclass(frozen=True)
class EmbeddingsAbout:
    """What made the embeddings of a file, and how they are written.

    Attributes:
        model: string. The MODEL argument, as it was given.
        fingerprint: Optional string. Of `model_fingerprint`; `None` where nobody knows
            it, such as behind an endpoint.
        dimension: int. Of an embedding. Binary ones take an eighth of it in bytes.
        values: string. `"float32"`, `"int8"` or `"binary"`.
        truncate_dim: Optional int. How many dimensions were asked for; `None`: all.
        pooling: Optional string.
        max_length: Optional int. Tokens a text is cut at.
        prompt: string. What stands before each text.
        version: string. Of this package.

    Example:

    ```python
    EmbeddingsAbout("runs/mine/best", model_fingerprint(model), 768)
    ```
    """

    model: str
    fingerprint: str | None
    dimension: int
    values: str = FLOAT32
    truncate_dim: int | None = None
    pooling: str | None = None
    max_length: int | None = None
    prompt: str = ""
    version: str = __version__

    @property
    def stored(self) -> tuple[np.dtype, int]:
        """The dtype of an embedding's elements in the file, and how many there are."""
        if self.values == BINARY:
            return np.dtype(np.uint8), -(-self.dimension // 8)
        return np.dtype(np.int8 if self.values == INT8 else np.float32), self.dimension

    def encoded(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings as they stand in the file.

        Args:
            rows: float32 array of shape `(n, dim)`, rows of unit length, of the model's
                own dimension or of this one.

        Returns:
            Array of shape `(n, stored[1])` and dtype `stored[0]`.

        Raises:
            NotFinite: If an embedding is not finite.
        """
        if rows.shape[1] != self.dimension:
            rows = truncate(rows, self.dimension)
        if self.values == FLOAT32:
            return rows
        return encode_int8(rows) if self.values == INT8 else encode_binary(rows)

    def decoded(self, stored: np.ndarray) -> np.ndarray:
        """What stands in the file as embeddings.

        Args:
            stored: As `encoded` returns them.

        Returns:
            float32 array of shape `(n, dimension)`, rows of unit length.
        """
        if self.values == FLOAT32:
            return stored
        if self.values == INT8:
            return decode_int8(stored)
        return decode_binary(stored, self.dimension)


def embedding_schema(
    about: EmbeddingsAbout,
    with_text: bool = False,
    metadata: Sequence[pa.Field] = (),
) -> pa.Schema:
    """The schema of a file of embeddings.

    Args:
        about: What made them.
        with_text: bool. Whether there is a column `text`. Defaults to `False`.
        metadata: The fields of the metadata's columns.

    Raises:
        UserError: If a column of the metadata has the name of one of ours.

    Example:

    ```python
    embedding_schema(about, metadata=[pa.field("lang", pa.string())]).names
    # ["id", "embedding", "lang"]
    ```
    """
    import pyarrow as pa

    if taken := [f.name for f in metadata if f.name in (ID, TEXT, EMBEDDING)]:
        raise UserError(
            f"the column {taken[0]!r} cannot be metadata: embeddings are written with "
            f"the columns {ID}, {TEXT} and {EMBEDDING} of their own"
        )
    dtype, length = about.stored
    vectors = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), False), length)
    own = [pa.field(ID, pa.string(), False), pa.field(EMBEDDING, vectors, False)]
    if with_text:
        own.insert(1, pa.field(TEXT, pa.string(), False))
    return pa.schema(
        [*own, *metadata], {_KEY: json.dumps(asdict(about), ensure_ascii=False)}
    )


def embeddings_about(schema: pa.Schema, path: str) -> EmbeddingsAbout:
    """What made the embeddings of a file that has a schema.

    Args:
        schema: The file's.
        path: string. What a message calls the file.

    Raises:
        UserError: If it is none of ours.

    Example:

    ```python
    embeddings_about(pq.read_schema("vectors.parquet"), "vectors.parquet").dimension
    ```
    """
    import pyarrow as pa

    try:
        told = json.loads((schema.metadata or {})[_KEY])
        about = EmbeddingsAbout(
            **{f.name: told[f.name] for f in fields(EmbeddingsAbout) if f.name in told}
        )
        dtype, length = about.stored
        vectors = schema.field(EMBEDDING).type
        _check(about.values in VALUES and schema.field(ID).type == pa.string())
        _check(vectors.value_type == pa.from_numpy_dtype(dtype))
        _check(vectors.list_size == length)
    except (LookupError, ValueError, TypeError, AttributeError):
        raise UserError(
            f"{path}: expected embeddings as `encode --format parquet` writes them, "
            f"received the columns {', '.join(schema.names) or 'of none'}"
        ) from None
    return about


def embedding_column(stored: np.ndarray) -> pa.FixedSizeListArray:
    """The column of embeddings, as `EmbeddingsAbout.encoded` returns them.

    Args:
        stored: Array of shape `(n, length)`.

    Example:

    ```python
    embedding_column(about.encoded(rows)).type  # fixed_size_list<float>[768]
    ```
    """
    import pyarrow as pa

    elements = pa.field("element", pa.from_numpy_dtype(stored.dtype), False)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(stored).reshape(-1)),
        type=pa.list_(elements, stored.shape[1]),
    )


def stored_rows(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The rows of a column of embeddings, as they stand in the file.

    Args:
        column: A column `embedding` of a batch or a table.

    Returns:
        Array of shape `(n, length)`.

    Raises:
        ValueError: If a row or an element is null.

    Example:

    ```python
    about.decoded(stored_rows(batch.column("embedding")))  # float32, (n, 768)
    ```
    """
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    # `flatten` leaves null rows out, and heeds a slice's offset.
    elements = column.flatten()
    if column.null_count or elements.null_count:
        raise ValueError("expected an embedding in every row, received null")
    rows: np.ndarray = elements.to_numpy(zero_copy_only=False)
    return rows.reshape(len(column), column.type.list_size)


def _check(fact: Any) -> None:
    if not fact:
        raise ValueError
