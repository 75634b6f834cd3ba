"""The models of a model server behind the OpenAI API."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from simcse_tf.client import VersionChanged
from simcse_tf.core.errors import UserError
from simcse_tf.gateway.errors import to_api_error
from simcse_tf.gateway.metrics import Metrics
from simcse_tf.gateway.target_model import TargetModel
from simcse_tf.openai_api.backend import Embedded, ModelInfo, check_supported
from simcse_tf.openai_api.embeddings_request import EmbeddingsRequest
from simcse_tf.openai_api.errors import ApiError, overloaded, unknown_model


class TargetBackend:
    """A `Backend` that asks a model server.

    Args:
        models: Its models.
        metrics: Receives texts and tokens.
        most_texts: The most texts of all requests at a time.

    Example:
    ```python
    await TargetBackend([model], Metrics(), most_texts=4096).embed(request)
    ```
    """

    def __init__(
        self, models: Sequence[TargetModel], metrics: Metrics, most_texts: int
    ):
        self._models = {model.name: model for model in models}
        self._metrics = metrics
        self._most_texts = most_texts
        self._texts = 0  # in flight
        self._started = False

    @property
    def models(self) -> Sequence[str]:
        """See `Backend.models`."""
        return list(self._models)

    async def start(self, timeout: float) -> None:
        """Waits until all models answer.

        Args:
            timeout: Seconds to wait at most for each.

        Raises:
            UserError: One does not, or is not as the gateway needs it.
        """
        for model in self._models.values():
            await model.start(timeout)
        self._started = True

    async def close(self) -> None:
        """Closes the connections."""
        for model in self._models.values():
            await model.close()

    async def describe(self, model: str) -> ModelInfo:
        """See `Backend.describe`."""
        with _told():
            return await self._find(model).info()

    async def embed(self, request: EmbeddingsRequest) -> Embedded:
        """See `Backend.embed`."""
        model = self._find(request.model)
        with _told(), self._room(len(request.input)):
            await _check(request, model)
            try:
                embedded = await model.embed(request.input, request.input_type)
            except VersionChanged:
                # Nothing is written yet, so the call begins anew.
                self._metrics.version_changes.inc()
                embedded = await model.embed(request.input, request.input_type)
            if request.dimensions is not None:
                check_supported(request, await model.info_of(embedded.version))
        self._metrics.texts.inc(len(request.input))
        self._metrics.tokens.inc(int(embedded.tokens.sum()))
        return embedded

    async def check_ready(self) -> None:
        """See `Backend.check_ready`: each model has answered a moment ago, or does."""
        if not self._started:
            raise ApiError(503, "the model server is not ready yet", code="not_ready")
        models = self._models.values()
        try:
            await asyncio.gather(*(model.check_ready() for model in models))
        except UserError as error:
            told = to_api_error(error)
            raise ApiError(503, str(told), code="not_ready") from error

    def _find(self, model: str) -> TargetModel:
        if model not in self._models:
            raise unknown_model(model, list(self._models))
        return self._models[model]

    @contextlib.contextmanager
    def _room(self, texts: int) -> Iterator[None]:
        """Counts texts in flight. Many in one request come in where there are none."""
        if self._texts and self._texts + texts > self._most_texts:
            raise overloaded(
                f"{self._texts} texts are being embedded: expected at most "
                f"{self._most_texts} with the {texts} of this request; try again later"
            )
        self._count(texts)
        try:
            yield
        finally:
            self._count(-texts)

    def _count(self, change: int) -> None:
        self._texts += change
        self._metrics.in_flight.set(self._texts)


async def _check(request: EmbeddingsRequest, model: TargetModel) -> None:
    """Refuses what the model lacks, also in the version that answers by now."""
    if request.dimensions is None and request.input_type is None:
        return
    try:
        check_supported(request, await model.info())
    except ApiError:
        await model.check()
        check_supported(request, await model.info())


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tells of the client's errors in OpenAI's form."""
    try:
        yield
    except UserError as error:
        raise to_api_error(error) from error
