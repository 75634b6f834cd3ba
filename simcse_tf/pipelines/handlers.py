"""Model handlers for Beam's `RunInference`: an exported model, and a served one.

An example is a batch of texts, because a model is fastest with many at once: Beam's
own batches are of one example.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from simcse_tf.client import Client
from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import check_finite
from simcse_tf.encoding.process import one_core_an_operation, share_heaps
from simcse_tf.exporting.versions import version_directory
from simcse_tf.pipelines.files import copy_tree, is_local

Texts: TypeAlias = Sequence[bytes]
Embed: TypeAlias = Callable[[Texts], np.ndarray]

SIGNATURE = "serving_default"
# Texts of similar length that the graph gets at a time. It makes buckets of them itself
# and computes equal ones once; in fewer texts both find less.
_AT_ONCE = 2048


class _TextsHandler(ModelHandler[Texts, np.ndarray, Embed]):
    """A handler whose examples are batches of texts, and whose model embeds one."""

    def run_inference(
        self,
        batch: Sequence[Texts],
        model: Embed,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[np.ndarray]:
        """Embeds batches of texts.

        Args:
            batch: Batches of UTF-8 texts.
            model: What `load_model` returned.
            inference_args: Nothing is read from it.

        Returns:
            float32 array of shape `(n, dim)` for each batch of `n` texts.

        Raises:
            NotFinite: If an embedding is not finite.
        """
        found = [model(texts) for texts in batch]
        for embeddings in found:
            check_finite(embeddings, "embeddings")
        return found

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """An example is a whole batch."""
        return {"max_batch_size": 1}

    def get_num_bytes(self, batch: Sequence[Texts]) -> int:
        """The bytes of the texts."""
        return sum(len(text) for texts in batch for text in texts)

    def get_metrics_namespace(self) -> str:
        """Where Beam's counters of batches and latencies are found."""
        return "simcse_tf"


class SavedModelHandler(_TextsHandler):
    """An exported model, loaded once in each process.

    Args:
        directory: string. A version that `export` wrote, or the directory above it.
            At an address such as `gs://`, which each process copies: the version.
        signature: string. One with an output `embedding`. Defaults to
            `"serving_default"`.
        shared: bool. Whether one process of a machine loads it for all, as a large
            model or a single GPU needs it. Defaults to `False`.

    Example:

    ```python
    texts | RunInference(SavedModelHandler("served/1"))
    ```
    """

    def __init__(
        self, directory: str, signature: str = SIGNATURE, shared: bool = False
    ):
        super().__init__(large_model=shared)
        self._directory = directory
        self._signature = signature

    def load_model(self) -> Embed:
        """Loads the SavedModel.

        Raises:
            UserError: If that is not possible, or it has no such signature.
        """
        one_core_an_operation()
        share_heaps()
        if is_local(self._directory):
            return _Loaded(version_directory(Path(self._directory)), self._signature)
        with tempfile.TemporaryDirectory() as copy:
            copy_tree(self._directory, Path(copy))
            return _Loaded(Path(copy), self._signature)


class EndpointHandler(_TextsHandler):
    """A served model, asked by the project's client with its retries.

    Args:
        target: string. "HOST:PORT" of the server's gRPC port.
        model: string. The model's name there. Defaults to `"simcse"`.
        output: string. `"float32"`, `"query"` or `"document"`, as for `Client.encode`.
        **settings: Others of `simcse_tf.client.Client`, such as `version`.

    Example:

    ```python
    texts | RunInference(EndpointHandler("127.0.0.1:8500", version=3))
    ```
    """

    def __init__(
        self,
        target: str,
        model: str = "simcse",
        output: str = "float32",
        **settings: Any,
    ):
        super().__init__()
        self._arguments = (target, model)
        self._output = output
        self._settings = settings

    def client(self, **settings: Any) -> Client:
        """A connection to the server, with other settings where they are given."""
        return Client(*self._arguments, **{**self._settings, **settings})

    def of_version(self, version: int) -> EndpointHandler:
        """The same model in one version, whichever others are loaded."""
        settings = {**self._settings, "version": version}
        return EndpointHandler(*self._arguments, self._output, **settings)

    def load_model(self) -> Embed:
        """Makes the connection."""
        return _Asked(self.client(), self._output)


class _Loaded:
    """A SavedModel that embeds texts."""

    def __init__(self, directory: Path, signature: str):
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the ops that tokenize

        try:
            # The variables belong to it.
            self._model = tf.saved_model.load(str(directory))
            found = self._model.signatures
        except Exception as error:
            # A broken file raises almost any type.
            raise UserError(
                f"cannot load the SavedModel {directory}: {error}"
            ) from error
        if signature not in found:
            raise UserError(
                f"{directory}: expected a signature {signature}, received "
                f"{', '.join(found)}"
            )
        self._answer = found[signature]
        self._dimensions = self._answer.structured_outputs["embedding"].shape[1]

    def __call__(self, texts: Texts) -> np.ndarray:
        import tensorflow as tf

        embeddings = np.empty((len(texts), self._dimensions), np.float32)
        # The longest first: what does not fit in memory fails at once.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            answer = self._answer(text=tf.constant([texts[row] for row in rows]))
            embeddings[rows] = answer["embedding"].numpy()
        return embeddings


class _Asked:
    """A served model that embeds texts."""

    def __init__(self, client: Client, output: str):
        self._client = client
        self._output = output

    def __call__(self, texts: Texts) -> np.ndarray:
        return self._client.encode(texts, self._output)
