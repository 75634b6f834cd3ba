"""Checks that an export is whole, and answers as the model that it was made from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the ops that tokenize
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from simcse_tf.client.protocol import SEARCH
from simcse_tf.core.contents import check_hashes, check_kinds, contents_of, listed
from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import check_finite
from simcse_tf.exporting.check_search import compare_hits, search_types
from simcse_tf.exporting.manifest import (
    ExportedAgreement,
    ExportedIndex,
    Manifest,
    SignatureTypes,
    TensorType,
    content_hash,
    read_manifest,
)
from simcse_tf.exporting.warmup_requests import WARMUP_FILE, read_warmup
from simcse_tf.server.integrity import manifest_path
from simcse_tf.server.versions import GRAPH_FILE


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may be from the model's own.

    Attributes:
        value: The largest difference of a float32 component.
        steps: The largest difference of an int8 component.
        bits: The share of the bits that may differ.

    Example:

    ```python
    TOLERANCES["float32"].value  # 1e-5
    ```
    """

    value: float
    steps: int
    bits: float


# Sums depend on the batch and the processor, since their order does. A component may
# then be rounded to the other side, and a bit may flip.
TOLERANCES = {
    "float32": Tolerance(1e-5, steps=1, bits=0.01),
    "bfloat16": Tolerance(0.01, steps=8, bits=0.05),
    "int8": Tolerance(0.01, steps=8, bits=0.05),
}

_UNIT_LENGTH = 1e-4
# TensorFlow makes it also where there is nothing to put in.
_EMPTY_DIRECTORIES = {"assets"}


@dataclass(frozen=True)
class Soundness:
    """What `check` has found in an export that is sound.

    Attributes:
        manifest: The export's manifest.
        records: The number of recorded requests that were answered.
        difference: The largest difference between a float32 answer and the recorded
            one.

    Example:

    ```python
    Soundness(read_manifest(version), records=8, difference=3e-7)
    ```
    """

    manifest: Manifest
    records: int
    difference: float


def check(directory: Path) -> Soundness:
    """Compares an export with its manifest and with the answers recorded in it.

    Args:
        directory: A version's directory.

    Returns:
        `Soundness`.

    Raises:
        UserError: If something is wrong; the message says what.

    Example:

    ```python
    check(Path("exports/simcse/1")).records  # 8
    ```
    """
    manifest = read_manifest(directory)
    _check_files(manifest, directory)
    # The hashes may have been written anew around anything: TensorFlow raises almost
    # any type of exception then.
    with _telling(GRAPH_FILE):
        _check_signatures(manifest, directory)
    with _telling("the weights"):
        _check_weights(manifest, directory)
    with _telling("TensorFlow cannot load it"):
        functions = tf.saved_model.load(str(directory)).signatures
    with _telling(WARMUP_FILE):
        records = list(read_warmup(directory))
    tolerance = TOLERANCES[manifest.model.precision]
    differences: dict[str, list[float]] = {name: [] for name in manifest.signatures}
    for name, inputs, recorded in records:
        with exact_products(), _telling(f"a recorded request to {name[:80]!r}"):
            answers = functions[name](**inputs)
            if name == SEARCH:
                received = {output: it.numpy() for output, it in answers.items()}
                differences[name].append(
                    compare_hits(received, recorded, tolerance.value)
                )
                continue
            differences[name] += [
                _compare(f"{output} of {name}", answers[output], wanted, tolerance)
                for output, wanted in recorded.items()
            ]
    if silent := [name for name, found in differences.items() if not found]:
        raise UserError(f"no warmup request for {listed(silent)} in {WARMUP_FILE}")
    found = list(chain.from_iterable(differences.values()))
    return Soundness(manifest, len(records), max(found))


@contextmanager
def exact_products() -> Iterator[None]:
    """Within the block products of float32 are float32's on a GPU too.

    It computes them in TF32 otherwise, where answers depend on a batch's shape by more
    than `TOLERANCES`.

    Example:

    ```python
    with exact_products():
        embeddings = model.predict(sentences)
    ```
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def summary(directory: Path, soundness: Soundness) -> str:
    """What `--check` prints of an export that is sound.

    Args:
        directory: The version's directory.
        soundness: As `check` returned it.

    Returns:
        string of several lines.

    Example:

    ```python
    print(summary(version, check(version)))  # exports/simcse/1: sound ...
    ```
    """
    manifest, model = soundness.manifest, soundness.manifest.model
    rows = {
        "model": f"{model.source or 'unnamed'}, {model.pooling} pooling",
        "embeddings": f"{model.dimensions} dimensions, {model.precision}, of up to "
        f"{model.max_length} tokens",
        **_about_agreement(model.agreement),
        "created": manifest.created,
        "files": f"{len(manifest.files)}, SHA-256 {manifest.content_hash}",
        "manifest": "as it was written"
        if manifest.manifest_hash
        else "of an older export: no hash says whether it was edited",
        "signatures": ", ".join(manifest.signatures),
        **_about_index(manifest.index),
        "answers": f"{soundness.records} recorded requests, largest difference "
        f"{soundness.difference:.1g}",
    }
    lines = [f"  {name:10}  {text}" for name, text in rows.items()]
    return "\n".join([f"{directory}: sound", *lines])


def _about_agreement(agreement: ExportedAgreement | None) -> dict[str, str]:
    if agreement is None:
        return {}
    mean, least = f"{agreement.mean:.4f}", f"{agreement.least:.4f}"
    return {"agreement": f"cosines with float32's {mean} on average, at least {least}"}


def _about_index(index: ExportedIndex | None) -> dict[str, str]:
    if index is None:
        return {}
    rows = f"{index.rows} rows of {index.dimensions} dimensions, {index.vectors}"
    return {"index": f"{index.source}, {rows}, SHA-256 {index.digest}"}


def signature_types(directory: Path) -> dict[str, SignatureTypes]:
    """The types of a SavedModel's inputs and outputs, by the signature's name.

    Args:
        directory: The SavedModel. It is read, not loaded.

    Example:

    ```python
    signature_types(version)["serving_default"].inputs["text"].dtype  # "string"
    ```
    """
    content = (directory / GRAPH_FILE).read_bytes()
    graph = SavedModel.FromString(content).meta_graphs[0]
    return {
        name: SignatureTypes(
            inputs={key: _type(info) for key, info in definition.inputs.items()},
            outputs={key: _type(info) for key, info in definition.outputs.items()},
        )
        for name, definition in sorted(graph.signature_def.items())
        if definition.method_name == tf.saved_model.PREDICT_METHOD_NAME
    }


def _type(info: Any) -> TensorType:
    shape = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
    return TensorType(dtype=tf.DType(info.dtype).name, shape=shape)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {error or type(error).__name__}") from None


def _check_files(manifest: Manifest, directory: Path) -> None:
    contents = contents_of(directory)
    check_kinds(contents)
    files = {*contents.files} - {manifest_path(directory).name}
    if extra := files - manifest.files.keys():
        raise UserError(f"{listed(extra)} does not belong to it")
    parents = {str(parent) for name in manifest.files for parent in Path(name).parents}
    if extra := {*contents.directories} - parents - _EMPTY_DIRECTORIES:
        raise UserError(f"the directory {listed(extra)} does not belong to it")
    check_hashes(directory, files, manifest.files)
    if content_hash(manifest.files) != manifest.content_hash:
        raise UserError(
            f"{manifest_path(directory).name}: content_hash is not that of the files"
        )


def _check_weights(manifest: Manifest, directory: Path) -> None:
    """Checks what the stored weights themselves say: their type, and that each is a
    number, also those that no recorded request reads."""
    weights = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    least = tf.as_dtype(manifest.model.precision).size
    if manifest.index and manifest.index.vectors == "bfloat16":
        # They are variables as well.
        least = tf.bfloat16.size
    for name, dtype in weights.get_variable_to_dtype_map().items():
        if not dtype.is_floating:
            continue
        if dtype.size < least:
            raise UserError(
                f"{manifest_path(directory).name}: precision: expected that of the "
                f"weights, {dtype.name}, received {manifest.model.precision}"
            )
        check_finite(
            np.atleast_1d(weights.get_tensor(name)).astype(np.float32, copy=False),
            f"the weight {name}",
        )


def _check_signatures(manifest: Manifest, directory: Path) -> None:
    found = signature_types(directory)
    if found != manifest.signatures:
        raise UserError(
            f"its signatures are not those of {manifest_path(directory).name}"
        )
    text = TensorType(dtype="string", shape=[None])
    embedding = TensorType(dtype="float32", shape=[None, manifest.model.dimensions])
    cosine = TensorType(dtype="float32", shape=[None])
    of_all = {
        "serving_default": SignatureTypes(
            inputs={"text": text}, outputs={"embedding": embedding}
        ),
        "similarity": SignatureTypes(
            inputs={"text_a": text, "text_b": text},
            outputs={"cosine_similarity": cosine},
        ),
    }
    if manifest.index:
        of_all[SEARCH] = search_types(manifest.index.has_metadata)
    for name, expected in of_all.items():
        if found.get(name) != expected:
            raise UserError(
                f"{name}: expected {expected.model_dump_json()}, received "
                f"{found[name].model_dump_json() if name in found else 'none'}"
            )


def _compare(
    label: str, answer: tf.Tensor, wanted: np.ndarray, tolerance: Tolerance
) -> float:
    """The difference of a float32 answer, or 0.0 for a quantized one.

    Raises:
        UserError: If the answer is another one.
    """
    received = answer.numpy()
    if (received.dtype, received.shape) != (wanted.dtype, wanted.shape):
        raise UserError(
            f"{label}: expected {wanted.dtype} {wanted.shape}, received "
            f"{received.dtype} {received.shape}"
        )
    if wanted.dtype.kind == "f":
        check_finite(wanted, f"{label}, as recorded")
        check_finite(received, label)
    if wanted.dtype == np.uint8:
        difference: float = np.unpackbits(received ^ wanted).mean()
        limit: float = tolerance.bits
    else:
        difference = np.abs(received.astype(np.float32) - wanted).max()
        limit = tolerance.steps if wanted.dtype == np.int8 else tolerance.value
    if difference > limit:
        raise UserError(
            f"{label} differs from the model's by {difference:.2g}, more than {limit}"
        )
    if wanted.dtype != np.float32:
        return 0.0
    lengths = np.linalg.norm(received, axis=1) if wanted.ndim == 2 else np.ones(1)
    if not (np.abs(lengths - 1) <= _UNIT_LENGTH).all():
        raise UserError(f"{label} is not of unit length")
    return float(difference)
