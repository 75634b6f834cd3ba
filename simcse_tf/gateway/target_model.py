"""One model on the model server."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from simcse_tf.client import AsyncClient, Retry, ServerError
from simcse_tf.client.ordered_requests import ordered_requests
from simcse_tf.client.protocol import SameVersion, Signatures, batches
from simcse_tf.core.errors import UserError
from simcse_tf.gateway.errors import is_busy
from simcse_tf.openai_api.backend import Embedded, ModelInfo, describe
from simcse_tf.openai_api.errors import ApiError, overloaded

# An answer shows for so long that the model server is ready.
FRESH_SECONDS = 10.0
# A check of the model server takes no longer: those who ask for it wait some seconds.
CHECK_SECONDS = 3.0
ONCE = Retry(attempts=1)
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
        self._checking = asyncio.Lock()

    async def close(self) -> None:
        """Closes the connection."""
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
            await self._ask([b""] * self._batch_size, None, ONCE)
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
            await self._ask([b""], None, ONCE, time.monotonic() + CHECK_SECONDS)
        except ServerError as error:
            if not is_busy(error):
                raise

    async def check_ready(self) -> None:
        """Does the same unless it answered a moment ago; for many callers once.

        Raises:
            ServerError: It does not.
        """
        async with self._checking:
            if time.monotonic() > self._answered + FRESH_SECONDS:
                await self.check()

    async def embed(self, texts: Sequence[str], input_type: str | None) -> Embedded:
        """Embeds texts, in several requests at a time where they are many.

        Args:
            texts: The texts.
            input_type: "query", "document" or None.

        Raises:
            ServerError: A request failed.
            VersionChanged: Two versions answered.
        """
        same = SameVersion()
        parts = []
        requests = (
            self._ask(batch, input_type) for batch in batches(texts, self._batch_size)
        )
        calls = ordered_requests(
            requests, asyncio.ensure_future, self._client.concurrency
        )
        with contextlib.closing(calls):
            for call in calls:
                part = await call
                same.check_version(part.version)
                parts.append(part)
        return Embedded(
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.truncated for part in parts]),
            parts[0].version,
        )

    async def _ask(
        self,
        texts: Sequence[bytes],
        input_type: str | None,
        retry: Retry | None = None,
        end: float = math.inf,
    ) -> Embedded:
        """Sends one request."""
        part = await self._client.stub.counted(texts, input_type, end, retry)
        self._version, self._answered = part.version, time.monotonic()
        return part

    def _describe(self, version: int, signatures: Signatures) -> ModelInfo:
        widths = {
            name: tensors["outputs"]["embedding"]["shape"][-1]
            for name, tensors in signatures.items()
            if tensors["outputs"].get("embedding", {}).get("shape")
        }
        return describe(self.name, version, widths)
