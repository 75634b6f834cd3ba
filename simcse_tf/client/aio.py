"""The client for programs on asyncio; the synchronous one drives it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any

import grpc
import numpy as np

from simcse_tf.client import protocol, responses
from simcse_tf.client.connection import Connection, Tls
from simcse_tf.client.hits import Hit
from simcse_tf.client.ordered_requests import ordered_requests
from simcse_tf.client.protocol import Answer, SameVersion, Text
from simcse_tf.client.retry import Retry, ServerError
from simcse_tf.client.stub import ModelStub
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

    Create it where an event loop runs. Does not import TensorFlow.

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
        options: gRPC channel options. A response has at most 256 MiB by default.

    Raises:
        UserError: An argument is out of range, or a file cannot be read.

    Example:
    ```python
    async with AsyncClient("127.0.0.1:8500") as client:
        embeddings = await client.encode(["A man is playing a guitar."])
    ```
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
        _check_settings(timeout, batch_size, concurrency, version, label)
        asyncio.get_running_loop()
        self.target = target
        self.concurrency = concurrency
        self._connection = Connection(target, timeout, retry, tls, token, options)
        self.stub = ModelStub(self._connection, model, version, label, batch_size)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls that are under way are cancelled."""
        await self._connection.close()

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
            output: "float32", "int8", "binary", "query" or "document". All but the
                first need an export with their signatures.
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

        Example:
        ```python
        embeddings = await client.encode(["A man plays.", "It rains."])
        ```
        """
        rows = [row async for row in self.encode_stream(texts, output, deadline)]
        return (
            np.concatenate(rows) if rows else await self.no_embeddings(output, deadline)
        )

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

        Example:
        ```python
        async for embeddings in client.encode_stream(open("sentences.txt")):
            index.add(embeddings)
        ```
        """
        requests = self.stub.embedding_requests(texts, output, deadline)
        return _arrays(requests, self.concurrency)

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

        Example:
        ```python
        [score] = await client.similarity(["A man plays."], ["A man is playing."])
        ```
        """
        if len(texts_a) != len(texts_b):
            raise UserError(
                f"expected as many texts on both sides, received {len(texts_a)} "
                f"and {len(texts_b)}"
            )
        requests = self.stub.similarity_requests(texts_a, texts_b, deadline)
        scores = [scores async for scores in _arrays(requests, self.concurrency)]
        return np.concatenate(scores) if scores else np.empty(0, np.float32)

    async def search(
        self, texts: Iterable[Text], k: int = 10, deadline: float | None = None
    ) -> list[list[Hit]]:
        """Finds the neighbours of texts in the index that the model was exported with.

        Args:
            texts: As for `encode`.
            k: How many neighbours each text gets, at most 1,000. Fewer come back if the
                index has fewer.
            deadline: As for `encode`.

        Returns:
            For each text a list of `Hit`, the nearest first.

        Raises:
            UserError: `k` is out of range.
            ServerError: As for `encode`; FAILED_PRECONDITION where the model has no
                signature `search`.
            VersionChanged: As for `encode`.

        Example:
        ```python
        [hits] = await client.search(["Who plays the guitar?"], k=3)
        hits[0].text  # "A man is playing a guitar."
        ```
        """
        same = SameVersion()
        found: list[list[Hit]] = []
        requests = self.stub.search_requests(texts, k, deadline)
        calls = ordered_requests(requests, asyncio.ensure_future, self.concurrency)
        with contextlib.closing(calls):
            for call in calls:
                hits = await call
                same.check_version(hits.version)
                found += hits.of_texts
        return found

    async def status(self, deadline: float | None = None) -> dict[int, str]:
        """Returns the state of every version that the server knows.

        Args:
            deadline: As for `encode`.

        Returns:
            The state's name, such as "AVAILABLE", by version.

        Raises:
            ServerError: As for `encode`; NOT_FOUND for an unknown model.

        Example:
        ```python
        assert "AVAILABLE" in (await client.status()).values()
        ```
        """
        return await self.stub.status(deadline)

    async def metadata(self, deadline: float | None = None) -> protocol.Signatures:
        """Returns the model's signatures.

        Args:
            deadline: As for `encode`.

        Returns:
            For every signature's name its "inputs" and "outputs", and for each
            of these by name a dtype and a shape, -1 for what may vary, such as
            `{"text": {"dtype": "string", "shape": [-1]}}`.

        Raises:
            ServerError: As for `encode`.

        Example:
        ```python
        outputs = (await client.metadata())["serving_default"]["outputs"]
        ```
        """
        return await self.stub.metadata(deadline)

    async def no_embeddings(
        self, output: str = "float32", deadline: float | None = None
    ) -> np.ndarray:
        """Returns what `encode` gives for no texts: no rows, of the right width.

        Args:
            output: As for `encode`.
            deadline: As for `encode`.

        Raises:
            ServerError: As for `encode`.
            UserError: The model has no such output.

        Example:
        ```python
        dim = (await client.no_embeddings()).shape[1]
        ```
        """
        wanted = protocol.embedding_output(output)
        return responses.no_rows(await self.metadata(deadline), output, wanted)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Waits until the model answers a real prediction.

        A status alone does not show it: TF Serving reports AVAILABLE for a model
        that cannot serve.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            ServerError: The last refusal, after `timeout` seconds, or at once
                an error that waiting does not cure.

        Example:
        ```python
        await client.wait_until_ready(timeout=120)
        ```
        """
        end = time.monotonic() + timeout
        output = protocol.embedding_output("float32")
        while True:
            # The last try may start at the end; it still needs some time.
            until = max(end, time.monotonic() + POLL_SECONDS)
            try:
                await self.stub.predict(output, {"text": [b""]}, until, ONCE)
                return
            except ServerError as error:
                if error.code not in NOT_READY or time.monotonic() >= end:
                    raise
            await asyncio.sleep(POLL_SECONDS)


async def _arrays(
    requests: Iterable[Coroutine[Any, Any, Answer]], concurrency: int
) -> AsyncIterator[np.ndarray]:
    same = SameVersion()
    calls = ordered_requests(requests, asyncio.ensure_future, concurrency)
    with contextlib.closing(calls):
        for call in calls:
            yield same.check(await call)


def _check_settings(
    timeout: float,
    batch_size: int,
    concurrency: int,
    version: int | None,
    label: str | None,
) -> None:
    for name, number in (("batch_size", batch_size), ("concurrency", concurrency)):
        if number < 1:
            raise UserError(f"{name}: expected 1 or more, received {number}")
    if not timeout > 0:
        raise UserError(f"timeout: expected more than 0, received {timeout}")
    if version is not None and label is not None:
        raise UserError(
            f"expected a version or a label, received {version} and {label!r}"
        )
