"""Embeddings to a file, some rows at a time: NumPy, Parquet or a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import npy_header
from simcse_tf.encoding.embedding_files import (
    EMBEDDING,
    ID,
    TEXT,
    embedding_column,
    embeddings_about,
)
from simcse_tf.encoding.records import Record

if TYPE_CHECKING:
    import pyarrow as pa

NPY, PARQUET, JSONL = "npy", "parquet", "jsonl"
FORMATS = (NPY, PARQUET, JSONL)

# As they stand in the file, and the records that they are of.
Block: TypeAlias = tuple[np.ndarray, list[Record]]
Writer: TypeAlias = Callable[[Path, Iterable[Block], "pa.Schema", int], None]

# Rows whose numbers are made texts at a time.
_AT_ONCE = 1024
# Vertex AI's name for a file with a JSON object a line.
_SUFFIXES = {".npy": NPY, ".parquet": PARQUET, ".jsonl": JSONL, ".json": JSONL}


def format_of(output: str, asked: str | None = None) -> str:
    """The format of a file that is to be written.

    Args:
        output: string. The file.
        asked: Optional string. The format that was asked for. Defaults to `None`: its
            name says it.

    Raises:
        UserError: If that cannot be said.

    Example:

    ```python
    format_of("vectors.parquet")  # "parquet"
    ```
    """
    if asked is not None:
        return asked
    found = _SUFFIXES.get(PurePath(output).suffix.lower())
    if found is None:
        raise UserError(
            f"--output: expected a name that ends in {', '.join(_SUFFIXES)}, or "
            f"--format, received {output}"
        )
    return found


def write_npy(
    path: Path, blocks: Iterable[Block], schema: pa.Schema, rows: int
) -> None:
    """Writes the embeddings alone, as NumPy reads them.

    Args:
        path: The file.
        blocks: Embeddings as they stand in the file, and their records.
        schema: As for `write_parquet`.
        rows: int. How many there are in all.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_npy(path, [(rows, [])], embedding_schema(about), len(rows))
    ```
    """
    dtype, length = embeddings_about(schema, str(path)).stored
    with path.open("wb") as file:
        file.write(npy_header((rows, length), dtype))
        for stored, _ in blocks:
            file.write(np.ascontiguousarray(stored, dtype).data)


def write_parquet(
    path: Path, blocks: Iterable[Block], schema: pa.Schema, rows: int
) -> None:
    """Writes a Parquet file, a row group a block.

    Args:
        path: The file.
        blocks: Embeddings as they stand in the file, and their records.
        schema: Of `embedding_schema`.
        rows: int. As for `write_npy`.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_parquet(path, [(rows, records)], embedding_schema(about), len(rows))
    ```
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    others = [name for name in schema.names if name != EMBEDDING]
    metadata = [name for name in others if name not in (ID, TEXT)]
    # Embeddings do not compress, and no query asks for their smallest component.
    packing = {f"{EMBEDDING}.list.element": "none", **dict.fromkeys(others, "zstd")}
    with pq.ParquetWriter(
        path,
        schema,
        compression=packing,
        use_dictionary=metadata,
        write_statistics=[ID, *metadata],
    ) as file:
        for stored, records in blocks:
            columns = {EMBEDDING: embedding_column(stored)}
            for field in schema:
                if field.name in others:
                    values = [_value(record, field.name) for record in records]
                    columns[field.name] = pa.array(values, field.type)
            file.write_batch(pa.RecordBatch.from_pydict(columns, schema), len(stored))


def write_jsonl(
    path: Path, blocks: Iterable[Block], schema: pa.Schema, rows: int
) -> None:
    """Writes a JSON object a line, as Vertex AI Vector Search takes it.

    Each number has as few digits as it takes to read the same float32 again. Texts and
    truth values of the metadata are `restricts`, numbers `numeric_restricts`.

    Args:
        path: The file.
        blocks: Embeddings as they stand in the file, and their records.
        schema: As for `write_parquet`.
        rows: int. As for `write_npy`.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    write_jsonl(path, [(rows, records)], embedding_schema(about), len(rows))
    # {"id": "7", "embedding": [0.6, 0.8]}
    ```
    """
    types = {field.name: str(field.type) for field in schema}
    texts = [name for name in types if name in (ID, TEXT)]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for stored, records in blocks:
            for numbers, record in zip(_listed(stored), records, strict=True):
                before = {name: _value(record, name) for name in texts}
                after = _restricts(record.metadata, types)
                file.write(
                    f'{_json(before)[:-1]}, "{EMBEDDING}": [{numbers}]'
                    f"{', ' if after else ''}{_json(after)[1:]}\n"
                )


WRITERS: dict[str, Writer] = {
    NPY: write_npy,
    PARQUET: write_parquet,
    JSONL: write_jsonl,
}


def _value(record: Record, name: str) -> Any:
    if name == ID:
        return record.id
    if name == TEXT:
        return record.text.decode("utf-8", "replace")
    return record.metadata.get(name)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _listed(stored: np.ndarray) -> Iterator[str]:
    """The numbers of each row, with commas between them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    length = stored.shape[1]
    for first in range(0, len(stored), _AT_ONCE):
        numbers = np.ascontiguousarray(stored[first : first + _AT_ONCE]).reshape(-1)
        texts = pa.array(numbers).cast(pa.string())
        # Many a reader takes -0 for a whole number, which has no sign.
        texts = pc.if_else(pc.equal(texts, "-0"), "-0.0", texts)
        ends = pa.array(np.arange(0, len(texts) + 1, length), pa.int32())
        rows = pa.ListArray.from_arrays(ends, texts)
        yield from pc.binary_join(rows, ", ").to_pylist()


def _restricts(metadata: dict[str, Any], types: dict[str, str]) -> dict[str, Any]:
    """Metadata as what a search may be restricted by."""
    tokens, numbers = [], []
    for name, value in metadata.items():
        if value is None:
            continue
        if types[name] == "int64":
            numbers.append({"namespace": name, "value_int": value})
        elif types[name] == "double":
            numbers.append({"namespace": name, "value_double": float(value)})
        else:
            token = value if isinstance(value, str) else json.dumps(value)
            tokens.append({"namespace": name, "allow": [token]})
    found = {"restricts": tokens, "numeric_restricts": numbers}
    return {key: values for key, values in found.items() if values}
