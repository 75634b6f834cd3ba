"""An export's manifest: what the model is, where it comes from, its files' hashes.

Needs no TensorFlow.
"""

import hashlib
import json
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

import simcse_tf
from simcse_tf.core.contents import contents_of, sha256
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json
from simcse_tf.server.integrity import MANIFEST_FILE, manifest_path
from simcse_tf.training.run_directory import RunDirectory, scores_of

Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]

_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
_OWN_HASH = "manifest_hash"


class ManifestPart(BaseModel):
    """JSON with the keys of its class and no others.

    Example:

    ```python
    TensorType.model_validate_json('{"unknown": 1}')  # raises ValidationError
    ```
    """

    model_config = ConfigDict(extra="forbid")


class TensorType(ManifestPart):
    """A tensor of a signature; `null` in its shape is the number of texts.

    Example:

    ```python
    TensorType(dtype="float32", shape=[None, 768])
    ```
    """

    dtype: str
    shape: list[int | None]


class SignatureTypes(ManifestPart):
    """The tensors of a signature by their names.

    Example:

    ```python
    SignatureTypes(inputs={"text": text}, outputs={"embedding": embedding})
    ```
    """

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]


class ExportedAgreement(ManifestPart):
    """Cosines of a model's embeddings in int8 with those in float32, of random tokens.

    Attributes:
        mean: On average.
        least: The smallest.

    Example:

    ```python
    read_manifest(version).model.agreement.mean  # 0.9906
    ```
    """

    mean: float
    least: float


class ExportedModel(ManifestPart):
    """What was exported.

    Attributes:
        source: The MODEL argument that it was loaded from.
        pooling: The pooler.
        max_length: Tokens at which a text is cut.
        dimensions: How many an embedding has.
        precision: The type that the model computes in.
        parameters: How many weights it has.
        fingerprint: Tells its embeddings from another model's, as
            `simcse_tf.encoding.fingerprint.model_fingerprint`; `None` in older
            exports.
        agreement: In int8, how near it is to float32.

    Example:

    ```python
    read_manifest(version).model.max_length  # 32
    ```
    """

    source: str | None
    pooling: str
    max_length: int
    dimensions: int
    precision: Precision
    parameters: int
    fingerprint: str | None = None
    agreement: ExportedAgreement | None = None


class ExportedIndex(ManifestPart):
    """The index that the signature `search` searches.

    Attributes:
        source: Its directory.
        digest: SHA-256 of the `manifest.json` in there.
        rows: How many it finds: of each text the first that was not removed.
        dimensions: Of an embedding.
        vectors: The type that they are stored as.
        has_metadata: Whether hits have metadata.

    Example:

    ```python
    read_manifest(version).index.rows  # 1000000
    ```
    """

    source: str
    digest: str
    rows: int
    dimensions: int
    vectors: Literal["float32", "bfloat16", "int8"]
    has_metadata: bool


class TrainingRecord(ManifestPart):
    """The run that the model comes from.

    Attributes:
        data: Name of the training data.
        config: The run's config.
        dev: Its scores on dev data, if it was evaluated.
        test: Its scores on test data, if it was evaluated.

    Example:

    ```python
    training_record("runs/sup/best").data  # "nli.csv"
    ```
    """

    data: str
    config: dict[str, Any]
    dev: dict[str, float] | None
    test: dict[str, float] | None


class Manifest(ManifestPart):
    """The content of an export's `manifest.json`.

    Attributes:
        created: The time of the export, ISO 8601 in UTC.
        model: What was exported.
        training: The run that it comes from; `None` for a model of no run.
        index: The index of its signature `search`; `None` without that.
        signatures: Types of inputs and outputs by the signature's name.
        versions: Versions of the packages that wrote it.
        content_hash: SHA-256 over the list of `files`.
        files: SHA-256 of each file by its path in the export; the manifest itself
            is not among them.
        manifest_hash: SHA-256 over all of the above; `None` in older exports.

    Example:

    ```python
    read_manifest(Path("exports/simcse/1")).content_hash  # "2c26b46b68..."
    ```
    """

    created: str
    model: ExportedModel
    training: TrainingRecord | None
    index: ExportedIndex | None = None
    signatures: dict[str, SignatureTypes]
    versions: dict[str, str]
    content_hash: str
    files: dict[str, str]
    manifest_hash: str | None = None


def write_manifest(
    directory: Path,
    model: ExportedModel,
    training: TrainingRecord | None,
    signatures: dict[str, SignatureTypes],
    index: ExportedIndex | None = None,
) -> None:
    """Writes the manifest of an export that is otherwise complete.

    Args:
        directory: The export.
        model: What it is.
        training: Optional. The run it comes from.
        signatures: Types by the signature's name.
        index: Optional. The index that it searches.

    Example:

    ```python
    training = training_record("runs/sup/best")
    write_manifest(directory, model, training, signature_types(directory))
    ```
    """
    files = file_hashes(directory)
    manifest = Manifest(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=model,
        training=training,
        index=index,
        signatures=signatures,
        versions={
            "simcse_tf": simcse_tf.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        content_hash=content_hash(files),
        files=files,
    )
    # As a reader finds it: JSON has fewer types than Python.
    values = json.loads(manifest.model_dump_json())
    values[_OWN_HASH] = _hash_of(values)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (directory / MANIFEST_FILE).write_text(text, "utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Reads an export's manifest.

    Args:
        directory: The export. An older one may have the manifest under its old name.

    Raises:
        UserError: If there is none, or it is not as it was written.

    Example:

    ```python
    read_manifest(Path("exports/simcse/1")).model.dimensions  # 768
    ```
    """
    path = manifest_path(directory)
    if not path.is_file():
        raise UserError(
            f"no {MANIFEST_FILE} in it: expected a version that export wrote"
        )
    values = read_json(path)
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{path.name}: {key or 'content'}: {first['msg']}") from None
    if manifest.manifest_hash not in (None, _hash_of(values)):
        raise UserError(f"{path.name} is not as it was written ({_OWN_HASH})")
    return manifest


def file_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of an export but its manifest, by the path inside it.

    Example:

    ```python
    file_hashes(directory)["saved_model.pb"]  # "9f86d08188..."
    ```
    """
    names = contents_of(directory).files
    return {
        name: sha256(directory / name)
        for name in sorted(names)
        if name != manifest_path(directory).name
    }


def content_hash(files: dict[str, str]) -> str:
    """One hash for all files and their names, as `sha256sum` of their list gives it.

    Example:

    ```python
    content_hash(file_hashes(directory))  # "2c26b46b68..."
    ```
    """
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def training_record(source: str) -> TrainingRecord | None:
    """What a run's directory holds about the model in it.

    Args:
        source: A MODEL argument, such as `runs/sup/best`.

    Returns:
        `TrainingRecord`, or `None` where the model is not in a run's directory.

    Raises:
        UserError: If a file of the run cannot be read.

    Example:

    ```python
    training_record("runs/sup/best").test  # {"STS12": 75.3, ..., "avg": 81.6}
    ```
    """
    run = RunDirectory(Path(source).parent)
    if not Path(source).is_dir() or not run.metrics_file.is_file():
        return None
    config = read_json(run.config_file)
    if not isinstance(config, dict) or "data" not in config:
        return None
    try:
        return TrainingRecord(
            data=Path(config["data"]["train"]).name,
            config=config,
            dev=scores_of(Path(source)),
            # A run tests its best model only.
            test=run.test_scores if Path(source).name == run.best.name else None,
        )
    except (KeyError, TypeError, ValidationError):
        raise UserError(
            f"{run.config_file}, or scores beside it, is not as training wrote it"
        ) from None


def _hash_of(values: dict[str, Any]) -> str:
    covered = {key: value for key, value in values.items() if key != _OWN_HASH}
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
