"""A version as `export` writes it, of a model that needs no training and no tracing."""

import contextlib
from pathlib import Path

import pytest

from simcse_tf.exporting import saved_model
from simcse_tf.exporting.manifest import (
    ExportedModel,
    SignatureTypes,
    TensorType,
    write_manifest,
)
from support.servers import DIM, export


@contextlib.contextmanager
def unchecked():
    """`export` without its comparison, where the test compares what comes out."""
    with pytest.MonkeyPatch.context() as patch:
        leave_unchecked(patch)
        yield


def leave_unchecked(patch):
    """The same until the end of a `MonkeyPatch`."""
    patch.setattr(saved_model, "_check", lambda directory: None)


def export_with_manifest(
    base_path: Path, version: int = 1, asset: bytes | None = None
) -> Path:
    """Writes the model of the serving tests, and a manifest beside it.

    Another `asset` makes it another model to those who compare files.
    """
    directory = export(base_path, version)
    if asset is not None:
        (directory / "assets").mkdir(exist_ok=True)
        (directory / "assets" / "asset").write_bytes(asset)
    text = TensorType(dtype="string", shape=[None])
    embedding = TensorType(dtype="float32", shape=[None, DIM])
    write_manifest(
        directory,
        ExportedModel(
            source="models/tiny",
            pooling="cls",
            max_length=32,
            dimensions=DIM,
            precision="float32",
            parameters=1,
        ),
        None,
        {
            "serving_default": SignatureTypes(
                inputs={"text": text}, outputs={"embedding": embedding}
            )
        },
    )
    return directory
