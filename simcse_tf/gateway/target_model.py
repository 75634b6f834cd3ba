"""One model on the model server."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence

import grpc

from simcse_tf.client import AsyncClient, Retry, ServerError
from simcse_tf.client.counting import Counted
from simcse_tf.client.protocol import Signatures
from simcse_tf.client.stub import ONCE
from simcse_tf.core.errors import UserError
from simcse_tf.gateway.errors import is_busy
from simcse_tf.openai_api.backend import Embedded, ModelInfo, describe
from simcse_tf.openai_api.errors import ApiError, overloaded

# An answer shows for so long that the model server is ready.
FRESH_SECONDS = 10.0
# A check of the model server takes no longer: those who ask for it wait some seconds.
CHECK_SECONDS = 3.0
MOST_VERSIONS = 100  # whose signatures are remembered


class TargetModel:
    """A model, and what is known of its versions.

    Args:
        name: The model's name.
        connect: Makes a client for a version of it, or for None: the one that answers.
        batch_size: The most texts in a request.

    Example:
    ```python
    model = TargetModel("simcse", connect, batch_size=64)
    await model.embed(["A man is playing a guitar."], None)
    ```
    """

    def __init__(
        self, name: str, connect: Callable[[int | None], AsyncClient], batch_size: int
    ):
        self.name = name
        self._connect = connect
        self._client = connect(None)
        self._batch_size = batch_size
        self._infos: dict[int, ModelInfo] = {}
        self._version: int | None = None  # that answered last
        self._answered = -math.inf  # when that was
        self._checking: asyncio.Future[None] | None = None

    async def close(self) -> None:
        """Closes the connection."""
        if self._checking is not None:
            self._checking.cancel()
        await self._client.close()

    async def start(self, timeout: float) -> None:
        """Waits until the model answers as the gateway needs it.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            UserError: It does not answer in time, counts no tokens, or takes fewer
                texts at once.
        """
        await self._client.wait_until_ready(timeout)
        try:
            self._describe(0, await self._client.metadata())
        except ApiError as error:
            raise UserError(f"--model: {error}") from None
        try:
            # A server that is full is asked again.
            await self._ask([b""] * self._batch_size)
        except ServerError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            raise UserError(f"--max_batch_size: {error}") from None

    async def info(self) -> ModelInfo:
        """What is known of the version that answered last."""
        if self._version is None:
            await self.check()
        if self._version is None:
            raise overloaded("the model server is busy: try again later")
        return await self.info_of(self._version)

    async def info_of(self, version: int) -> ModelInfo:
        """What is known of a version.

        Args:
            version: Its number.
        """
        if version not in self._infos:
            client = self._connect(version)
            try:
                self._infos[version] = self._describe(version, await client.metadata())
            finally:
                await client.close()
            if len(self._infos) > MOST_VERSIONS:
                del self._infos[min(self._infos)]
        return self._infos[version]

    async def check(self) -> None:
        """Makes sure that the model answers, and learns which version does.

        A model server that is busy counts as ready: without it, others would only get
        its load too.

        Raises:
            ServerError: It does not.
        """
        try:
            await self._ask([b""], time.monotonic() + CHECK_SECONDS, ONCE)
        except ServerError as error:
            if not is_busy(error):
                raise

    async def check_ready(self) -> None:
        """Does the same unless it answered a moment ago; for many callers once.

        Raises:
            ServerError: It does not.
        """
        if time.monotonic() < self._answered + FRESH_SECONDS:
            return
        if self._checking is None or self._checking.done():
            self._checking = asyncio.ensure_future(self.check())
            # asyncio complains of exceptions that nobody waited for.
            self._checking.add_done_callback(
                lambda done: None if done.cancelled() else done.exception()
            )
        await asyncio.shield(self._checking)

    async def embed(self, texts: Sequence[str], input_type: str | None) -> Embedded:
        """Embeds texts, in several requests at a time where they are many.

        Args:
            texts: The texts.
            input_type: "query", "document" or None.

        Raises:
            ServerError: A request failed.
            VersionChanged: Two versions answered.
        """
        output = input_type or "float32"
        return self._noted(await self._client.encode_counted(texts, output))

    async def _ask(
        self, texts: Sequence[bytes], end: float = math.inf, retry: Retry | None = None
    ) -> None:
        self._noted(await self._client.stub.counted(texts, None, end, retry))

    def _noted(self, counted: Counted) -> Embedded:
        self._version, self._answered = counted.version, time.monotonic()
        return Embedded(
            counted.embeddings, counted.tokens, counted.truncated, counted.version
        )

    def _describe(self, version: int, signatures: Signatures) -> ModelInfo:
        widths = {
            name: tensors["outputs"]["embedding"]["shape"][-1]
            for name, tensors in signatures.items()
            if tensors["outputs"].get("embedding", {}).get("shape")
        }
        return describe(self.name, version, widths)
