"""The models of the Python server behind the OpenAI API."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from simcse_tf.core.json_files import read_json
from simcse_tf.openai_api import backend
from simcse_tf.openai_api.backend import SIGNATURES, Embedded, ModelInfo
from simcse_tf.openai_api.embeddings_request import EmbeddingsRequest
from simcse_tf.openai_api.errors import ApiError, unknown_model
from simcse_tf.server import status_errors
from simcse_tf.server.catalog import Catalog
from simcse_tf.server.integrity import manifest_path
from simcse_tf.server.request_metrics import RequestMetrics, counted
from simcse_tf.server.servable import Servable

TIMEOUT_SECONDS = 30.0  # of one part; REST's
PART_TEXTS = 64  # where the server does not batch


class CatalogBackend:
    """A `Backend` on the models that this server has loaded.

    Args:
        catalog: The models.
        metrics: Receives each request.

    Example:
    ```python
    await CatalogBackend(catalog).embed(request)
    ```
    """

    def __init__(self, catalog: Catalog, metrics: RequestMetrics | None = None):
        self._catalog = catalog
        self._metrics = metrics
        # A version's signatures stay as they are. It leaves with the version.
        self._described: WeakKeyDictionary[Servable, ModelInfo] = WeakKeyDictionary()

    @property
    def models(self) -> Sequence[str]:
        """The models that answer requests."""
        return [
            name for name, model in self._catalog.models.items() if model.available()
        ]

    async def describe(self, model: str) -> ModelInfo:
        """See `Backend.describe`."""
        with self._lease(model) as servable:
            return self._describe(model, servable)

    async def embed(self, request: EmbeddingsRequest) -> Embedded:
        """See `Backend.embed`."""
        with _told(), self._lease(request.model) as servable:
            backend.check_supported(request, self._describe(request.model, servable))
            with counted(self._metrics, request.model, "OpenAI"):
                return await _embed(request, servable)

    async def check_ready(self) -> None:
        """See `Backend.check_ready`: each model has a version that was warmed up."""
        missing = self._catalog.models.keys() - set(self.models)
        if missing:
            names = ", ".join(sorted(missing))
            raise ApiError(503, f"not loaded: {names}", code="not_ready")

    def _describe(self, model: str, servable: Servable) -> ModelInfo:
        if servable not in self._described:
            self._described[servable] = _describe(model, servable)
        return self._described[servable]

    @contextlib.contextmanager
    def _lease(self, model: str) -> Iterator[Servable]:
        if model not in self.models:
            raise unknown_model(model, list(self.models))
        with self._catalog.lease(model_pb2.ModelSpec(name=model)) as servable:
            yield servable


async def _embed(request: EmbeddingsRequest, servable: Servable) -> Embedded:
    """Embeds part by part: other requests get their turn in between."""
    size = servable.most_rows or PART_TEXTS
    parts = []
    for first in range(0, len(request.input), size):
        asked = predict_pb2.PredictRequest()
        asked.model_spec.signature_name = SIGNATURES[request.input_type]
        texts = [text.encode() for text in request.input[first : first + size]]
        # By hand, because `tf.make_tensor_proto` looks at each text several times.
        tensor = asked.inputs["text"]
        tensor.dtype = types_pb2.DT_STRING
        tensor.tensor_shape.dim.add(size=len(texts))
        tensor.string_val.extend(texts)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        parts.append(await servable.run(asked, deadline))
    embeddings, tokens, truncated = (
        np.concatenate([part[name] for part in parts])
        for name in ("embedding", "tokens", "truncated")
    )
    return Embedded(embeddings, tokens, truncated, servable.version)


def _describe(model: str, servable: Servable) -> ModelInfo:
    widths = {
        name: signature.outputs["embedding"].tensor_shape.dim[-1].size
        for name, signature in servable.signature_defs.items()
        if "embedding" in signature.outputs
    }
    max_length = _max_length(servable.path)
    return backend.describe(model, servable.version, widths, max_length)


def _max_length(version: Path) -> int | None:
    """The manifest's; none where another program wrote the model."""
    path = manifest_path(version)
    manifest = read_json(path) if path.is_file() else None
    model = manifest.get("model") if isinstance(manifest, dict) else None
    length = model.get("max_length") if isinstance(model, dict) else None
    return length if isinstance(length, int) else None


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tells of TensorFlow's errors in OpenAI's form."""
    try:
        yield
    except tf.errors.OpError as error:
        code, message = status_errors.describe(error)
        status = status_errors.HTTP_STATUSES.get(code, 500)
        retry = 1 if status in (429, 503) else None
        raise ApiError(status, message, retry_after=retry) from error
