"""The model of a pipeline: an export or an endpoint, and what tells it from others."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from simcse_tf.client import Retry, Tls
from simcse_tf.core.contents import check_hashes, contents_of
from simcse_tf.core.errors import UserError
from simcse_tf.core.token_file import read_token
from simcse_tf.encoding.embedding_files import EmbeddingsAbout
from simcse_tf.exporting.manifest import Manifest, read_manifest
from simcse_tf.exporting.versions import version_directory
from simcse_tf.pipelines.files import is_local, open_bytes
from simcse_tf.pipelines.handlers import SIGNATURE, EndpointHandler, SavedModelHandler
from simcse_tf.server.integrity import MANIFEST_FILE

# What is embedded to see whether an endpoint still answers as it did.
_PROBE = (b"A man is playing a guitar.", "Überraschung: 42 Äpfel!".encode())


class ModelSource(NamedTuple):
    """A model as a pipeline uses it.

    Attributes:
        handler: For `RunInference`.
        about: What is written beside embeddings.
        identity: What tells it from other models, for the manifest.

    Example:

    ```python
    source_of(arguments).about.dimension  # 384
    ```
    """

    handler: ModelHandler[Any, Any, Any]
    about: EmbeddingsAbout
    identity: dict[str, Any]


def saved_model_source(arguments: argparse.Namespace) -> ModelSource:
    """The export that `--saved-model` names.

    Args:
        arguments: With `saved_model`, `prompt` and `share_model`.

    Raises:
        UserError: If it is none, is damaged or has no such prompt.

    Example:

    ```python
    saved_model_source(arguments).identity["fingerprint"]
    ```
    """
    named = arguments.saved_model.rstrip("/")
    directory, manifest = _export(named)
    signature = f"serving_{arguments.prompt}" if arguments.prompt else SIGNATURE
    if signature not in manifest.signatures:
        raise UserError(
            f"--prompt: {named} has no signature {signature}, received "
            f"{', '.join(manifest.signatures)}"
        )
    model = manifest.model
    # Older exports have no fingerprint; two of the same model then differ.
    fingerprint = getattr(model, "fingerprint", None) or manifest.content_hash
    return ModelSource(
        SavedModelHandler(directory, signature, arguments.share_model),
        EmbeddingsAbout(
            model.source or named,
            fingerprint,
            model.dimensions,
            pooling=model.pooling,
            max_length=model.max_length,
        ),
        {
            "saved_model": named,
            "fingerprint": fingerprint,
            "precision": model.precision,
            "signature": signature,
        },
    )


def endpoint_source(arguments: argparse.Namespace) -> ModelSource:
    """The served model that `--target` names, in the version that answers now.

    Args:
        arguments: With `target`, `model_name`, `version`, `prompt`, `tls`, `ca` and
            `token_file`.

    Raises:
        UserError: If it does not answer.

    Example:

    ```python
    endpoint_source(arguments).identity["version"]  # 3
    ```
    """
    token = arguments.token_file
    handler = EndpointHandler(
        arguments.target,
        arguments.model_name,
        arguments.prompt or "float32",
        tls=Tls(arguments.ca) if arguments.tls else None,
        token=read_token(token, "--token-file") if token else None,
    )
    # A wrong address is reported at once.
    with handler.client(retry=Retry(seconds=0.0)) as client:
        loaded = [n for n, state in client.status().items() if state == "AVAILABLE"]
    version = max(loaded, default=0) if arguments.version is None else arguments.version
    if version not in loaded:
        raise UserError(
            f"--target: {arguments.model_name} has "
            f"{f'no version {version}' if version else 'no version'} that is loaded"
        )
    # All workers ask the same one, also when a newer one is loaded meanwhile.
    handler = handler.of_version(version)
    with handler.client(retry=Retry(seconds=0.0)) as client:
        probe = client.encode(_PROBE, arguments.prompt or "float32")
    return ModelSource(
        handler,
        EmbeddingsAbout(
            f"{arguments.target}/{arguments.model_name}", None, probe.shape[1]
        ),
        {
            "target": arguments.target,
            "model": arguments.model_name,
            "version": version,
            "prompt": arguments.prompt,
            "probe": np.round(probe.astype(float), 6).tolist(),
        },
    )


def _export(named: str) -> tuple[str, Manifest]:
    """The directory of an export's version, and its manifest."""
    if is_local(named):
        try:
            directory = version_directory(Path(named)).resolve()
            manifest = read_manifest(directory)
            # TensorFlow serves a graph in which a bit has flipped.
            check_hashes(directory, contents_of(directory).files, manifest.files)
        except UserError as error:
            message = str(error).removeprefix("--check: ")
            raise UserError(f"--saved-model: {named}: {message}") from None
        return str(directory), manifest
    with tempfile.TemporaryDirectory() as copy:
        with open_bytes(f"{named}/{MANIFEST_FILE}") as file:
            Path(copy, MANIFEST_FILE).write_bytes(file.read())
        return named, read_manifest(Path(copy))
