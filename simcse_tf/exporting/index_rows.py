"""What an export takes from an index: its rows, and what tells it from others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.contents import sha256
from simcse_tf.core.errors import UserError
from simcse_tf.exporting.manifest import ExportedIndex
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.manifest import MANIFEST_FILE, read_manifest
from simcse_tf.indexing.querying import check_same_embeddings

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

FLAG = "--index"
_SHOWN = 12  # characters of a fingerprint


@dataclass(frozen=True)
class IndexRows:
    """The rows that a search can find: of each text the first that was not removed.

    Attributes:
        vectors: `(rows, dim)` as they are stored: float32, bfloat16 or int8.
        ids: Object array of bytes, `(rows,)`.
        texts: The same.
        metadata: The same, JSON objects; `None` where the index has no columns.
        about: What the manifest says of the index.

    Example:

    ```python
    rows_of(Index.open("wiki.index")).about.rows  # 1000000
    ```
    """

    vectors: np.ndarray
    ids: np.ndarray
    texts: np.ndarray
    metadata: np.ndarray | None
    about: ExportedIndex


def rows_of(index: Index) -> IndexRows:
    """Reads the rows of an index.

    Args:
        index: An `Index`.

    Raises:
        UserError: If all were removed, or the index has changed since it was opened.

    Example:

    ```python
    rows_of(Index.open("wiki.index")).texts[0]  # b"A man plays a guitar."
    ```
    """
    digest = sha256(index.directory / MANIFEST_FILE)
    if read_manifest(index.directory) != index.manifest:
        raise UserError(f"{FLAG}: {index.directory} has changed meanwhile: try again")
    rows = np.flatnonzero(index.live)
    texts = index.texts(rows)
    if index.manifest.has_texts:
        first = {text: place for place, text in reversed([*enumerate(texts)])}
        kept = np.sort(np.fromiter(first.values(), np.int64, len(first)))
        rows, texts = rows[kept], [texts[place] for place in kept]
    if not len(rows):
        raise UserError(f"{FLAG}: {index.directory} has no rows: expected one or more")
    metadata = None
    if index.manifest.columns:
        found = index.metadata(rows)
        metadata = _as_bytes([json.dumps(it, ensure_ascii=False) for it in found])
    return IndexRows(
        vectors=_stored_vectors(index, rows),
        ids=_as_bytes(index.ids(rows)),
        texts=_as_bytes(texts),
        metadata=metadata,
        about=ExportedIndex(
            source=str(index.directory),
            digest=digest,
            rows=len(rows),
            dimensions=index.dimension,
            vectors=index.manifest.dtype,
        ),
    )


def check_same_model(index: Index, model: SimCSE, fingerprint: str, name: str) -> None:
    """Checks that a model's embeddings can be compared with those of an index.

    Args:
        index: The index.
        model: The model that is exported.
        fingerprint: string. The model's.
        name: string. What messages call the model.

    Raises:
        UserError: If another model, or another way to use it, made the index.

    Example:

    ```python
    check_same_model(index, model, model_fingerprint(model), "runs/sup/best")
    ```
    """
    built = index.manifest
    if built.fingerprint is None:
        # It was built behind an endpoint.
        check_same_embeddings(index, _documents(index, model))
    elif built.fingerprint != fingerprint:
        raise UserError(
            f"{FLAG}: {index.directory} was built with {built.model} (fingerprint "
            f"{built.fingerprint[:_SHOWN]}; {built.pooling} pooling, {built.max_length} "
            f"tokens), and {name} is exported (fingerprint {fingerprint[:_SHOWN]}; "
            f"{model.pooling} pooling, {model.max_length} tokens, "
            f"{model.compute_dtype}): expected the same model, used in the same way"
        )


def _stored_vectors(index: Index, rows: np.ndarray) -> np.ndarray:
    stored = index.segments[0].vectors.dtype
    vectors = np.empty((len(rows), index.dimension), stored)
    for segment in index.segments:
        first, last = segment.first, segment.first + len(segment.vectors)
        begin, end = np.searchsorted(rows, [first, last])
        vectors[begin:end] = segment.vectors[rows[begin:end] - first]
    if index.manifest.dtype == "bfloat16":
        import ml_dtypes

        return vectors.view(ml_dtypes.bfloat16)
    return vectors


def _as_bytes(texts: list[str]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = [text.encode("utf-8", "surrogatepass") for text in texts]
    return array
