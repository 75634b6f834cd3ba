"""An export's manifest: what the model is, where it comes from, its files' hashes.

Needs no TensorFlow.
"""

import hashlib
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import simcse_tf
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json
from simcse_tf.training.run_directory import RunDirectory, scores_of

# Beside saved_model.pb; TF Serving ignores files that it does not know.
MANIFEST_FILE = "manifest.json"
# The manifest's name in older exports; presets have another file of that name.
OLD_MANIFEST_FILE = "simcse.json"

_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
_CHUNK = 2**20


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


class ExportedModel(ManifestPart):
    """What was exported.

    Attributes:
        source: The MODEL argument that it was loaded from.
        pooling: The pooler.
        max_length: Tokens at which a text is cut.
        dimensions: How many an embedding has.
        precision: The type that the model computes in.
        parameters: How many weights it has.

    Example:

    ```python
    read_manifest(version).model.max_length  # 32
    ```
    """

    source: str | None
    pooling: str
    max_length: int
    dimensions: int
    precision: Literal["float32", "bfloat16"]
    parameters: int


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
        signatures: Types of inputs and outputs by the signature's name.
        versions: Versions of the packages that wrote it.
        content_hash: SHA-256 over the list of `files`.
        files: SHA-256 of each file by its path in the export; the manifest itself
            is not among them.

    Example:

    ```python
    read_manifest(Path("exports/simcse/1")).content_hash  # "2c26b46b68..."
    ```
    """

    created: str
    model: ExportedModel
    training: TrainingRecord | None
    signatures: dict[str, SignatureTypes]
    versions: dict[str, str]
    content_hash: str
    files: dict[str, str]


def write_manifest(
    directory: Path,
    model: ExportedModel,
    training: TrainingRecord | None,
    signatures: dict[str, SignatureTypes],
) -> None:
    """Writes the manifest of an export that is otherwise complete.

    Args:
        directory: The export.
        model: What it is.
        training: Optional. The run it comes from.
        signatures: Types by the signature's name.

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
        signatures=signatures,
        versions={
            "simcse_tf": simcse_tf.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        content_hash=content_hash(files),
        files=files,
    )
    text = manifest.model_dump_json(indent=2) + "\n"
    (directory / MANIFEST_FILE).write_text(text, "utf-8")


def manifest_path(directory: Path) -> Path:
    """Where an export's manifest is: `manifest.json`, `simcse.json` in older exports.

    Example:

    ```python
    manifest_path(Path("exports/simcse/1"))  # exports/simcse/1/manifest.json
    ```
    """
    old = directory / OLD_MANIFEST_FILE
    new = directory / MANIFEST_FILE
    return old if old.is_file() and not new.is_file() else new


def read_manifest(directory: Path) -> Manifest:
    """Reads an export's manifest.

    Args:
        directory: The export. An older one may have the manifest under its old name.

    Raises:
        UserError: If there is none, or it is damaged.

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
    try:
        return Manifest.model_validate(read_json(str(path)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{path.name}: {key or 'content'}: {first['msg']}") from None


def file_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of an export but its manifest, by the path inside it.

    Example:

    ```python
    file_hashes(directory)["saved_model.pb"]  # "9f86d08188..."
    ```
    """
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): _sha256(path)
        for path in paths
        if path != manifest_path(directory)
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
    data = config.get("data", {}).get("train")
    if data is None:
        return None
    return TrainingRecord(
        data=Path(data).name,
        config=config,
        dev=scores_of(Path(source)),
        # A run tests its best model only.
        test=run.test_scores if Path(source).name == run.best.name else None,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
