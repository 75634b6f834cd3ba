"""An export's card: what the model is, where it comes from, its files' hashes.

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

# Beside saved_model.pb; TF Serving reads nothing that it does not know.
CARD_FILE = "simcse.json"

_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
_CHUNK = 2**20


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TensorType(Section):
    """A tensor of a signature; `null` in its shape is the number of texts."""

    dtype: str
    shape: list[int | None]


class SignatureTypes(Section):
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]


class Model(Section):
    """What was exported.

    Attributes:
        source: What `--model` named.
        pooling: The pooler.
        max_length: Tokens at which a text is cut.
        dimensions: Of an embedding.
        precision: What the model computes in.
        parameters: How many weights it has.
    """

    source: str | None
    pooling: str
    max_length: int
    dimensions: int
    precision: Literal["float32", "bfloat16"]
    parameters: int


class Training(Section):
    """The run that the model comes from.

    Attributes:
        data: Name of the training data.
        config: The run's config.
        dev: Its scores on dev data, if it was evaluated.
        test: Its scores on test data, if it was evaluated.
    """

    data: str
    config: dict[str, Any]
    dev: dict[str, float] | None
    test: dict[str, float] | None


class ModelCard(Section):
    """The content of `simcse.json`.

    Attributes:
        created: When, ISO 8601 in UTC.
        model: What was exported.
        training: The run that it comes from, where it comes from one.
        signatures: Types of inputs and outputs by the signature's name.
        versions: Of the packages that wrote it.
        content_hash: SHA-256 over the list of `files`.
        files: SHA-256 of each file by its path in the export, but the card's.
    """

    created: str
    model: Model
    training: Training | None
    signatures: dict[str, SignatureTypes]
    versions: dict[str, str]
    content_hash: str
    files: dict[str, str]


def write_card(
    directory: Path,
    model: Model,
    training: Training | None,
    signatures: dict[str, SignatureTypes],
) -> None:
    """Writes the card of an export that is otherwise complete.

    Args:
        directory: The export.
        model: What it is.
        training: Optional. The run it comes from.
        signatures: Types by the signature's name.
    """
    files = file_hashes(directory)
    card = ModelCard(
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
    text = card.model_dump_json(indent=2) + "\n"
    (directory / CARD_FILE).write_text(text, "utf-8")


def read_card(directory: Path) -> ModelCard:
    """Reads an export's card.

    Raises:
        UserError: If there is none, or it is damaged.
    """
    path = directory / CARD_FILE
    if not path.is_file():
        raise UserError(f"no {CARD_FILE} in it: expected a version that export wrote")
    try:
        return ModelCard.model_validate(read_json(str(path)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{CARD_FILE}: {key or 'content'}: {first['msg']}") from None


def file_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of an export but its card, by the path inside it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): _sha256(path)
        for path in paths
        if path != directory / CARD_FILE
    }


def content_hash(files: dict[str, str]) -> str:
    """One hash for all files and their names; as `sha256sum` of their list."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def training_of(source: str) -> Training | None:
    """What a run's directory says of the model in it.

    Args:
        source: A MODEL argument, such as `runs/sup/best`.

    Returns:
        `Training`, or `None` where the model is not in a run's directory.

    Raises:
        UserError: If a file of the run cannot be read.
    """
    run = RunDirectory(Path(source).parent)
    if not Path(source).is_dir() or not run.metrics_file.is_file():
        return None
    config = read_json(run.config_file)
    data = config.get("data", {}).get("train")
    if data is None:
        return None
    return Training(
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
