"""The client for programs on asyncio; the synchronous one drives it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import grpc
import numpy as np

from simcse_tf.client import connection, messages_pb2, protocol
from simcse_tf.client.connection import Tls
from simcse_tf.client.ordered_requests import in_order
from simcse_tf.client.protocol import SIMILARITY, Answer, Output, Text
from simcse_tf.client.retry import RETRYABLE, Retry, ServerError, VersionChanged
from simcse_tf.core.errors import UserError

# What a server answers, or does not, while the model is being loaded.
NOT_READY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
POLL_SECONDS = 0.2

ONCE = Retry(attempts=1)


class AsyncClient:
    """A connection to a model server that serves a SimCSE export.

    To be made where an event loop runs. Does not import TensorFlow.

    Args:
        target: "HOST:PORT" of the server's gRPC port.
        model: The model's name on the server.
        timeout: Seconds that one request may take.
        batch_size: The most texts in one request; longer lists are split. Not more
            than the server's `max_batch_size`.
        version: The model's version; by default the newest that is loaded.
        label: The version's label, such as "stable", in place of `version`.
        concurrency: The most requests of one call that are under way at a time.
        retry: When a request that failed is sent again.
        tls: Files for an encrypted connection. A plain one by default.
        token: Sent with every request as `authorization: Bearer TOKEN`.
        options: gRPC channel options. Message size is not limited by default.

    Raises:
        UserError: An argument is out of range, or a file cannot be read.

    Example:
        >>> async with AsyncClient("127.0.0.1:8500") as client:
        ...     embeddings = await client.encode(["A man is playing a guitar."])
    """

    def __init__(
        self,
        target: str,
        model: str = "simcse",
        timeout: float = 60.0,
        batch_size: int = 64,
        *,
        version: int | None = None,
        label: str | None = None,
        concurrency: int = 8,
        retry: Retry = Retry(),  # noqa: B008  it is frozen
        tls: Tls | None = None,
        token: str | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ):
        for name, number in (("batch_size", batch_size), ("concurrency", concurrency)):
            if number < 1:
                raise UserError(f"{name}: expected 1 or more, received {number}")
        if not timeout > 0:
            raise UserError(f"timeout: expected more than 0, received {timeout}")
        if version is not None and label is not None:
            raise UserError(
                f"expected a version or a label, received {version} and {label!r}"
            )
        asyncio.get_running_loop()
        self.target = target
        self.timeout = timeout
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.retry = retry
        self._spec = messages_pb2.ModelSpec(name=model, version_label=label)
        if version is not None:
            self._spec.version.value = version
        self._headers = connection.authorization(token)
        self._channel = connection.open_channel(target, tls, options)
        self._predict = self._method(protocol.PREDICT, messages_pb2.PredictResponse)
        self._get_status = self._method(
            protocol.GET_MODEL_STATUS, messages_pb2.GetModelStatusResponse
        )
        self._get_metadata = self._method(
            protocol.GET_MODEL_METADATA, messages_pb2.GetModelMetadataResponse
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls that are under way are cancelled."""
        await self._channel.close()

    async def encode(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
    ) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: Strings, or bytes that are sent as they are, valid UTF-8 or
                not.
            output: "float32", "int8" or "binary". The last two need an export with
                their signatures.
            deadline: Seconds that the whole call may take. A request that would be
                tried again later than that fails at once.

        Returns:
            Array of shape `(n, dim)` in the order of `texts`: float32, rows of unit
            length, or int8; for "binary" uint8 of shape `(n, dim / 8)`, as by
            `numpy.packbits`. No rows for no texts.

        Raises:
            ServerError: The server cannot be reached or answers with an error.
            VersionChanged: The server's newest version became another.
            UserError: No such output.
        """
        rows = [row async for row in self.encode_stream(texts, output, deadline)]
        return np.concatenate(rows) if rows else await self.no_embeddings(output)

    def encode_stream(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
    ) -> AsyncIterator[np.ndarray]:
        """Embeds texts as they come, in bounded memory.

        Args:
            texts: As for `encode`; an iterator is read as requests are sent.
            output: As for `encode`.
            deadline: As for `encode`.

        Returns:
            Iterator over arrays with the rows of up to `batch_size` texts, in the
            order of `texts`. Fails as `encode` does.
        """
        return self._answers(self.embedding_questions(texts, output, deadline))

    async def similarity(
        self,
        texts_a: Sequence[Text],
        texts_b: Sequence[Text],
        deadline: float | None = None,
    ) -> np.ndarray:
        """Compares texts pair by pair.

        Args:
            texts_a: As for `encode`.
            texts_b: As many texts as in `texts_a`.
            deadline: As for `encode`.

        Returns:
            float32 array of shape `(n,)`: cosine similarities, from -1 to 1.

        Raises:
            UserError: The two lists differ in length.
            ServerError: As for `encode`.
            VersionChanged: As for `encode`.
        """
        if len(texts_a) != len(texts_b):
            raise UserError(
                f"expected as many texts on both sides, received {len(texts_a)} "
                f"and {len(texts_b)}"
            )
        end = _end(deadline)
        questions = (
            self._ask(SIMILARITY, {"text_a": a, "text_b": b}, end)
            for a, b in zip(
                protocol.batches(texts_a, self.batch_size),
                protocol.batches(texts_b, self.batch_size),
                strict=True,
            )
        )
        scores = [scores async for scores in self._answers(questions)]
        return np.concatenate(scores) if scores else np.empty(0, np.float32)

    async def status(self, deadline: float | None = None) -> dict[int, str]:
        """Returns the state of every version that the server knows.

        Args:
            deadline: As for `encode`.

        Returns:
            The state's name, such as "AVAILABLE", by version.

        Raises:
            ServerError: As for `encode`; NOT_FOUND for an unknown model.
        """
        request = messages_pb2.GetModelStatusRequest(model_spec=self._spec)
        response = await self._call(self._get_status, request, _end(deadline))
        return protocol.read_status(response)

    async def metadata(
        self, deadline: float | None = None
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """Returns the model's signatures.

        Args:
            deadline: As for `encode`.

        Returns:
            For every signature's name its "inputs" and "outputs", and for each
            of these by name a dtype and a shape, -1 for what may vary, such as
            `{"text": {"dtype": "string", "shape": [-1]}}`.

        Raises:
            ServerError: As for `encode`.
        """
        request = messages_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=[protocol.SIGNATURE_DEF]
        )
        response = await self._call(self._get_metadata, request, _end(deadline))
        return protocol.read_metadata(response)

    async def no_embeddings(self, output: str = "float32") -> np.ndarray:
        """Returns what `encode` gives for no texts: no rows, of the right width.

        Args:
            output: As for `encode`.

        Raises:
            ServerError: As for `encode`.
            UserError: The model has no such output.
        """
        wanted = protocol.embedding(output)
        signatures = await self.metadata()
        if wanted.signature not in signatures:
            raise UserError(
                f"output {output}: expected a signature {wanted.signature} in the "
                f"model, received {', '.join(sorted(signatures))}"
            )
        shape = signatures[wanted.signature]["outputs"][wanted.name]["shape"]
        return np.empty((0, max(shape[-1], 0)), wanted.dtype)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Waits until the model answers a real prediction.

        A status alone does not tell: TF Serving reports AVAILABLE for a model
        that cannot serve.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            ServerError: The last refusal, after `timeout` seconds, or at once
                an error that waiting does not cure.
        """
        end = time.monotonic() + timeout
        inputs = {"text": [b""]}
        while True:
            # The last try may start at the end; it still needs some time.
            until = max(end, time.monotonic() + POLL_SECONDS)
            try:
                await self._ask(protocol.embedding("float32"), inputs, until, ONCE)
                return
            except ServerError as error:
                if error.code not in NOT_READY or time.monotonic() >= end:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    def embedding_questions(
        self, texts: Iterable[Text], output: str, deadline: float | None
    ) -> Iterator[Coroutine[Any, Any, Answer]]:
        """Splits `encode` into requests, each to be awaited on this client's loop.

        Args:
            texts: As for `encode`.
            output: As for `encode`.
            deadline: As for `encode`.

        Yields:
            Coroutines that send one request each and return its answer.
        """
        wanted = protocol.embedding(output)
        end = _end(deadline)
        for batch in protocol.batches(texts, self.batch_size):
            yield self._ask(wanted, {"text": batch}, end)

    async def _answers(
        self, questions: Iterable[Coroutine[Any, Any, Answer]]
    ) -> AsyncIterator[np.ndarray]:
        same = SameVersion()
        calls = in_order(questions, asyncio.ensure_future, self.concurrency)
        with contextlib.closing(calls):
            for call in calls:
                yield same.check(await call)

    async def _ask(
        self,
        output: Output,
        inputs: dict[str, list[bytes]],
        end: float,
        retry: Retry | None = None,
    ) -> Answer:
        request = protocol.predict_request(self._spec, output, inputs)
        response = await self._call(self._predict, request, end, retry)
        rows = len(next(iter(inputs.values())))
        return protocol.read_prediction(response, output, rows)

    async def _call(
        self, method: Any, request: Any, end: float, retry: Retry | None = None
    ) -> Any:
        """Sends a request, again if need be, until `end` by `time.monotonic()`."""
        start = time.monotonic()
        pauses = (retry or self.retry).pauses(start, end)
        attempts = 0
        while True:
            attempts += 1
            remaining = min(self.timeout, end - time.monotonic())
            try:
                return await method(request, timeout=remaining, metadata=self._headers)
            except grpc.aio.AioRpcError as error:
                pause = next(pauses, None) if error.code() in RETRYABLE else None
                if pause is None:
                    raise ServerError(
                        self.target,
                        error.code(),
                        error.details() or "",
                        attempts,
                        time.monotonic() - start,
                    ) from error
            await asyncio.sleep(pause)

    def _method(self, name: str, response: Any) -> Any:
        return self._channel.unary_unary(
            name,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )


class SameVersion:
    """Makes sure that all answers of one call come from one version."""

    def __init__(self) -> None:
        self._version: int | None = None

    def check(self, answer: Answer) -> np.ndarray:
        """Returns the array of an answer.

        Raises:
            VersionChanged: An answer before was from another version.
        """
        if self._version not in (None, answer.version):
            raise VersionChanged(self._version, answer.version)
        self._version = answer.version
        return answer.array


def _end(deadline: float | None) -> float:
    return math.inf if deadline is None else time.monotonic() + deadline
