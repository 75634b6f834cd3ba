"""Writing a model as a SavedModel: traced, recorded, compared, then published.

TensorFlow is imported by `export`, not by this module.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from simcse_tf.core.atomic import check_room, workplace
from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import writing_output
from simcse_tf.exporting.versions import check_base_directory, publish

if TYPE_CHECKING:
    from simcse_tf.exporting.index_rows import IndexRows
    from simcse_tf.exporting.manifest import ExportedIndex, TrainingRecord
    from simcse_tf.exporting.signatures import Endpoint
    from simcse_tf.indexing.index import Index
    from simcse_tf.model.sentence_encoder import SentenceEncoder
    from simcse_tf.model.simcse import SimCSE

PRECISIONS = ("float32", "bfloat16", "int8")

# What a version takes on a disk beside its weights: graph, vocabulary, answers.
_OVERHEAD = 2**22


def export(
    model: SimCSE,
    base_dir: str,
    *,
    truncate_dims: Sequence[int] = (),
    quantize: Sequence[str] = (),
    index: Index | None = None,
    source: str | None = None,
    progress: bool = False,
) -> Path:
    """Writes a model as the next version that TF Serving will pick up.

    The new version is loaded again and compared with `model.predict` before it
    appears under its number, which it does whole or not at all. It holds warmup
    requests, without which TF Serving calls a model available that cannot serve, and
    a manifest, `manifest.json`, that says what it is.

    Args:
        model: A `simcse_tf.SimCSE`.
        base_dir: string. Holds one directory a version: 1, 2, ...
        truncate_dims: ints below the model's dimensions. Adds a signature
            `serving_N` for each.
        quantize: Some of `"int8"` and `"binary"`. Adds `serving_int8` and
            `serving_binary`; `simcse_tf.quantization` reads what they return.
        index: Optional `Index` that the model built. Adds `search`
            (`simcse_tf.exporting.search_signature`), and its rows to the export.
        source: Optional string. The MODEL argument that the model was loaded from,
            for the manifest.
        progress: bool. Whether to report each stage on stderr. Defaults to `False`.

    Returns:
        `pathlib.Path` of the version's directory, with the signatures

        | name | inputs | outputs |
        |---|---|---|
        | `serving_default` | `text`: string `(n,)` | `embedding`: float32 `(n, dim)` |
        | `similarity` | `text_a`, `text_b`: string `(n,)` | `cosine_similarity`: float32 `(n,)` |
        | `serving_tokens` | `text`: string `(n,)` | `embedding`: float32 `(n, dim)`, `tokens`: int32 `(n,)`, `truncated`: bool `(n,)` |
        | `serving_N` | `text`: string `(n,)` | `embedding`: float32 `(n, N)` |
        | `serving_int8` | `text`: string `(n,)` | `embedding_int8`: int8 `(n, dim)` |
        | `serving_binary` | `text`: string `(n,)` | `embedding_bits`: uint8 `(n, ceil(dim / 8))` |
        | `serving_query`, `serving_document` | `text`: string `(n,)` | `embedding`: float32 `(n, dim)` |
        | `serving_query_tokens`, `serving_document_tokens` | `text`: string `(n,)` | as `serving_tokens` |
        | `search` | `text`: string `(n,)`, `k`: int32 `(n,)` | `ids`, `texts`: string `(n, k)`, `cosines`: float32 `(n, k)` |

        Those of `query` and `document` are there if one of the model's prompts has such
        a name.

    Raises:
        UserError: If `base_dir` cannot be written or the disk is full, the model's
            weights or embeddings are not finite, another model built the index, or
            the export cannot have the model's precision or one of the signatures.
        RuntimeError: If the export does not answer as the model does; nothing is
            published then.

    Example:

    ```python
    export(SimCSE.from_preset("runs/mine/best"), "exports/simcse")  # exports/simcse/1
    ```
    """  # noqa: E501
    from simcse_tf.exporting.check import exact_products
    from simcse_tf.exporting.manifest import training_record
    from simcse_tf.exporting.search_signature import SearchSignature
    from simcse_tf.exporting.signatures import signatures
    from simcse_tf.exporting.warmup_requests import answers, write_warmup

    if model.precision not in PRECISIONS:
        raise UserError(
            f"an export computes in {' or '.join(PRECISIONS)}; the model does in "
            f"{model.precision}"
        )
    wanted: list[Endpoint] = [
        *signatures(model.embedding_dim, truncate_dims, quantize, model.prompts)
    ]
    base = Path(base_dir)
    check_base_directory(base)
    training = training_record(source) if source else None
    size = checked_weights(model)
    about = None
    if index is not None:
        rows = _rows(index, model, source, progress)
        about, size = rows.about, size + rows.nbytes
        wanted.append(SearchSignature(rows, model.prompts.get("query")))
        del rows
    report_stage(progress, "recording the model's answers")
    with exact_products():
        answered = {
            prompt: answers(model, prompt)
            for prompt in dict.fromkeys(each.prompt for each in wanted)
        }
    with (
        writing_output("--output", base_dir),
        workplace(base / "export") as place,
    ):
        check_room(place, size + _OVERHEAD)
        directory = place / "version"
        directory.mkdir()
        report_stage(progress, f"tracing {', '.join(each.name for each in wanted)}")
        _write_graph(model, wanted, directory)
        write_warmup(directory, answered, wanted)
        # An index may have gigabytes, and they are loaded again now.
        wanted.clear()
        gc.collect()
        _write_manifest(model, source, training, about, directory)
        report_stage(progress, "loading it and comparing")
        _check(directory)
        return publish(directory, base)


def report_stage(progress: bool, stage: str) -> None:
    """Prints what an export does now on stderr, if `progress` asks for it.

    Example:

    ```python
    report_stage(True, "loading runs/mine/best")  # export: loading runs/mine/best
    ```
    """
    if progress:
        print(f"export: {stage}", file=sys.stderr, flush=True)


def checked_weights(model: SentenceEncoder) -> int:
    """The bytes of a model's weights, which are finite.

    Raises:
        UserError: If one is not.

    Example:

    ```python
    checked_weights(model)  # 437937664
    ```
    """
    from simcse_tf.model.finite import check_variables

    check_variables(model.weights, "the model's weights")
    return sum(weight.numpy().nbytes for weight in model.weights)


def _rows(index: Index, model: SimCSE, source: str | None, progress: bool) -> IndexRows:
    from simcse_tf.exporting.index_rows import rows_of
    from simcse_tf.indexing.querying import check_same_model

    try:
        check_same_model(index, model, source or "the model")
        report_stage(progress, f"reading {index.directory}")
        return rows_of(index)
    except UserError as error:
        raise UserError(f"--index: {error}") from None


def _check(directory: Path) -> None:
    from simcse_tf.exporting.check import check

    try:
        check(directory)
    except UserError as error:
        raise RuntimeError(f"the export: {error}; not published") from None


def _write_graph(model: SimCSE, wanted: Sequence[Endpoint], directory: Path) -> None:
    import keras

    from simcse_tf.exporting.served_embedder import embedder

    # A plain `tf.Module` around a Keras 3 model loads in Python and fails in TF
    # Serving ("Could not find variable"); the archive tracks the variables that its
    # endpoints read. To `track` the model as well would store each of them twice.
    archive = keras.export.ExportArchive()
    embed = embedder(model)
    for endpoint in wanted:
        archive.add_endpoint(endpoint.name, *endpoint.function(embed))
    archive.write_out(str(directory), verbose=False)


def _write_manifest(
    model: SimCSE,
    source: str | None,
    training: TrainingRecord | None,
    index: ExportedIndex | None,
    directory: Path,
) -> None:
    from simcse_tf.encoding.fingerprint import model_fingerprint
    from simcse_tf.exporting import manifest
    from simcse_tf.exporting.check import signature_types

    agreement = None
    if model.agreement:
        agreement = manifest.ExportedAgreement(**model.agreement._asdict())
    facts = manifest.ExportedModel(
        source=source,
        pooling=model.pooling,
        max_length=model.max_length,
        dimensions=model.embedding_dim,
        precision=cast("manifest.Precision", model.precision),
        parameters=model.count_params(),
        fingerprint=model_fingerprint(model),
        agreement=agreement,
    )
    types = signature_types(directory)
    manifest.write_manifest(directory, facts, training, types, index)
