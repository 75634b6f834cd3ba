"""Texts as queries of an index, by the model that built it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import shown_path
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.indexing.index import Hit, Index
from simcse_tf.indexing.sources import prompt_of
from simcse_tf.quantization import truncate

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

# Texts of the index that are embedded again, and how far cosines may be from 1: by what
# storing takes away, and by what batches and machines make of it.
_SAMPLE = 16
_TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-4, "int8": 2e-3}


def load_query_encoder(
    index: Index, model: str | None = None, prompt: str | None = None
) -> ModelEncoder:
    """Loads the model that built an index, for queries.

    Args:
        index: The index.
        model: Optional string. Where the model is now. Defaults to `None`: where it
            was when the index was built.
        prompt: Optional string. The name of the model's prompt that stands before each
            query. Defaults to `None`: `"query"`, or the model's own if it has none of
            that name.

    Raises:
        UserError: If it cannot be loaded, or is another model.

    Example:

    ```python
    search_texts(index, load_query_encoder(index), ["who plays the guitar?"], k=10)
    ```
    """
    from simcse_tf.model.simcse import SimCSE

    manifest = index.manifest
    name = model or manifest.model
    loaded = SimCSE.from_preset(
        name, pooling=manifest.pooling, max_length=manifest.max_length
    )
    check_same_model(index, loaded, name)
    return ModelEncoder(
        loaded,
        prompt=prompt_of(loaded, name, prompt),
        truncate_dim=manifest.truncate_dim,
        roles=prompt is None,
    )


def check_same_model(index: Index, model: SimCSE, name: str) -> None:
    """Checks that a model is the one that built an index.

    Args:
        index: The index.
        model: A `simcse_tf.SimCSE`.
        name: string. What the user called it.

    Raises:
        UserError: If it is not. Where nobody knows the fingerprint of the index'
            model, some texts are embedded and compared.

    Example:

    ```python
    check_same_model(index, model, "runs/sup/best")
    ```
    """
    manifest = index.manifest
    if manifest.fingerprint is None:
        encoder = ModelEncoder(
            model,
            prompt=manifest.prompt,
            truncate_dim=manifest.truncate_dim,
            roles=manifest.prompt is None,
        )
        check_same_embeddings(index, encoder.of_role("document"), name)
        return
    check_fingerprint(index, model_fingerprint(model), name)


def check_fingerprint(index: Index, fingerprint: str, name: str) -> None:
    """Checks that a fingerprint is that of the model that built an index.

    Args:
        index: The index. Where nobody knows its model's, anything passes.
        fingerprint: string. Of `simcse_tf.encoding.fingerprint.model_fingerprint`.
        name: string. What the user called the model.

    Raises:
        UserError: If it is another.

    Example:

    ```python
    check_fingerprint(index, model_fingerprint(model), "runs/sup/best")
    ```
    """
    manifest = index.manifest
    if manifest.fingerprint not in (None, fingerprint):
        raise UserError(
            f"{shown_path(index.directory)} was built with {manifest.model} "
            f"(fingerprint {manifest.fingerprint[:12]}), received {name} (fingerprint "
            f"{fingerprint[:12]}): expected the same model, pooling and max_length"
        )


def search_texts(
    index: Index,
    encode: Callable[[list[str]], np.ndarray],
    texts: Sequence[str],
    k: int,
    **options: Any,
) -> list[list[Hit]]:
    """The rows nearest to each text.

    Args:
        index: The index.
        encode: Embeds texts: a function from a list of `n` strings to a float array
            `(n, dim)`. A `ModelEncoder` puts the model's prompt for queries before
            them.
        texts: Sequence of strings.
        k: int. Rows for each, at most.
        options: `threshold`, `where` and `exact`, as for `Index.search`.

    Returns:
        For each text a list of `Hit`, the nearest first.

    Raises:
        UserError: If another model than a `ModelEncoder`'s built the index, or the
            embeddings are of another dimension.

    Example:

    ```python
    search_texts(index, encoder, ["who plays the guitar?"], k=10)
    ```
    """
    if isinstance(encode, ModelEncoder):
        check_fingerprint(index, encode.fingerprint, "another model")
        encode = encode.of_role("query")
    queries = _embedded(index, encode, list(texts), "the model")
    return index.search(queries, k, **options)


def check_same_embeddings(
    index: Index, encode: Callable[[list[str]], np.ndarray], name: str = "the model"
) -> None:
    """Checks that a model gives the embeddings that an index has.

    For a model that has no fingerprint, such as one behind an endpoint: some of the
    index' own texts are embedded and compared.

    Args:
        index: The index.
        encode: Embeds texts as documents, as for `search_texts`.
        name: string. What the user called it.

    Raises:
        UserError: If it does not, or there are no texts to compare.

    Example:

    ```python
    check_same_embeddings(index, client.encode, "localhost:8500")
    ```
    """
    manifest, shown = index.manifest, shown_path(index.directory)
    live = np.flatnonzero(index.live)
    if not len(live):
        return
    if not manifest.has_texts:
        raise UserError(
            f"{shown} has neither texts nor the fingerprint of "
            f"its model {manifest.model}: nobody can tell whether {name} is the same"
        )
    rows = live[sample(len(live))]
    embedded = _embedded(index, encode, index.texts(rows), name)
    check_close(embedded, index.vectors(rows), rows, manifest.dtype, name, shown)


def sample(rows: int) -> np.ndarray:
    """The rows, among so many, that are embedded again to compare them; int64.

    Example:

    ```python
    sample(1000)  # [0, 66, 133, ...]
    ```
    """
    return np.linspace(0, max(0, rows - 1), min(_SAMPLE, rows)).astype(np.int64)


def check_close(
    embedded: np.ndarray,
    there: np.ndarray,
    rows: np.ndarray,
    dtype: str,
    name: str,
    what: str,
) -> None:
    """Checks that a model gives embeddings that are there already.

    Args:
        embedded: float array `(n, dim)`. The model's.
        there: float array `(n, dim)`.
        rows: int array `(n,)`. Where they stand, for the message.
        dtype: string. What they were stored as.
        name: string. What the user called the model.
        what: string. What a message calls the embeddings that are there.

    Raises:
        UserError: If it does not.

    Example:

    ```python
    check_close(model.predict(texts), array[rows], rows, "float32", name, "wiki.npy")
    ```
    """
    cosines = (l2_normalize(embedded) * l2_normalize(there)).sum(axis=1)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= 1 - _TOLERANCES[dtype]:
        raise UserError(
            f"{what}: {name} embeds the text of row {rows[worst]}, counted from 0, "
            f"elsewhere (cosine {cosines[worst]:.4f}): expected the model, pooling, "
            "max_length and prompt that made it"
        )


def _embedded(
    index: Index, encode: Callable[[list[str]], np.ndarray], texts: list[str], name: str
) -> np.ndarray:
    if not texts:
        return np.empty((0, index.dimension), np.float32)
    embedded = np.asarray(encode(texts))
    if index.manifest.truncate_dim is not None and embedded.ndim == 2:
        # What an endpoint gives is whole.
        embedded = truncate(embedded, index.dimension)
    if embedded.shape != (len(texts), index.dimension):
        raise UserError(
            f"{shown_path(index.directory)} has {index.dimension} dimensions, "
            f"built with {index.manifest.model}: {name} has {embedded.shape[-1]}"
        )
    return embedded
