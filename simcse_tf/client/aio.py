"""The client for programs on asyncio; the synchronous one drives it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from simcse_tf.client import counting, protocol, responses
from simcse_tf.client.connection import Connection, Tls
from simcse_tf.client.counting import Counted
from simcse_tf.client.hits import Hit, Hits
from simcse_tf.client.ordered_requests import ordered_requests
from simcse_tf.client.protocol import Answer, SameVersion, Text
from simcse_tf.client.retry import Retry
from simcse_tf.client.settings import check_settings
from simcse_tf.client.stub import ModelStub

A = TypeVar("A")
T = TypeVar("T")


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
        check_settings(timeout, batch_size, concurrency, version, label)
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
        *,
        truncate: bool = True,
    ) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: Strings, or bytes that are sent as they are, valid UTF-8 or
                not.
            output: "float32", "int8", "binary", "query" or "document". All but the
                first need an export with their signatures.
            deadline: Seconds that the whole call may take. A request that would be
                tried again later than that fails at once.
            truncate: Whether a text is cut that has more tokens than the model reads.
                If not, it is refused.

        Returns:
            Array of shape `(n, dim)` in the order of `texts`: float32, rows of unit
            length, or int8; for "binary" uint8 of shape `(n, dim / 8)`, as by
            `numpy.packbits`. No rows for no texts.

        Raises:
            ServerError: The server cannot be reached or answers with an error.
            VersionChanged: The server's newest version became another.
            TextTooLong: A text has more tokens than the model reads, with
                `truncate=False`.
            UserError: No such output; or with `truncate=False` one whose tokens are
                not counted, or an export without `serving_tokens`.

        Example:
        ```python
        embeddings = await client.encode(["A man plays.", "It rains."])
        ```
        """
        stream = self.encode_stream(texts, output, deadline, truncate=truncate)
        rows = [row async for row in stream]
        return (
            np.concatenate(rows) if rows else await self.no_embeddings(output, deadline)
        )

    def encode_stream(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
        *,
        truncate: bool = True,
    ) -> AsyncIterator[np.ndarray]:
        """Embeds texts as they come, in bounded memory.

        Args:
            texts: As for `encode`; an iterator is read as requests are sent.
            output: As for `encode`.
            deadline: As for `encode`.
            truncate: As for `encode`.

        Returns:
            Iterator over arrays with the rows of up to `batch_size` texts, in the
            order of `texts`. Fails as `encode` does.

        Example:
        ```python
        async for embeddings in client.encode_stream(open("sentences.txt")):
            index.add(embeddings)
        ```
        """
        requests = self.stub.embedding_requests(texts, output, deadline, truncate)
        return _checked(requests, self.concurrency, SameVersion().check)

    async def encode_counted(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
    ) -> Counted:
        """Embeds texts, and tells how many tokens the model read of each.

        Args:
            texts: As for `encode`.
            output: "float32", "query" or "document".
            deadline: As for `encode`.

        Returns:
            `Counted`: what `encode` returns, and for each text the number of tokens,
            and whether it was cut.

        Raises:
            ServerError, VersionChanged: As for `encode`.
            UserError: No such output, or an export without `serving_tokens`.

        Example:
        ```python
        counted = await client.encode_counted(["A man plays.", "It rains."])
        counted.tokens  # array([6, 5], dtype=int32)
        ```
        """
        same = SameVersion()

        def check(part: Counted) -> Counted:
            same.check(Answer(part.embeddings, part.version))
            return part

        requests = self.stub.counted_requests(texts, output, deadline)
        parts = [part async for part in _checked(requests, self.concurrency, check)]
        if parts:
            return counting.joined(parts)
        return counting.nothing(await self.metadata(deadline), output)

    async def similarity(
        self,
        texts_a: Text | Sequence[Text],
        texts_b: Text | Sequence[Text],
        deadline: float | None = None,
    ) -> np.ndarray:
        """Compares texts pair by pair, or one text with many.

        Args:
            texts_a: As for `encode`; or one text, which is compared with each of
                `texts_b`. The server embeds it once a request.
            texts_b: As many texts as in `texts_a`, or one text.
            deadline: As for `encode`.

        Returns:
            float32 array of shape `(n,)`: cosine similarities, from -1 to 1. Two texts
            give one.

        Raises:
            UserError: Two lists differ in length.
            ServerError, VersionChanged: As for `encode`.

        Example:
        ```python
        scores = await client.similarity("A man plays.", ["It rains.", "He plays."])
        ```
        """
        a, b = protocol.paired(texts_a, texts_b)
        requests = self.stub.similarity_requests(a, b, deadline)
        checked = _checked(requests, self.concurrency, SameVersion().check)
        scores = [scores async for scores in checked]
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

        def check(found: Hits) -> list[list[Hit]]:
            same.check_version(found.version)
            return found.of_texts

        requests = self.stub.search_requests(texts, k, deadline)
        batches = _checked(requests, self.concurrency, check)
        return [hits async for batch in batches for hits in batch]

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
        await self.stub.wait_until_ready(timeout)


async def _checked(
    requests: Iterable[Coroutine[Any, Any, A]],
    concurrency: int,
    check: Callable[[A], T],
) -> AsyncIterator[T]:
    """What a check makes of each answer, in the order of the requests."""
    calls = ordered_requests(requests, asyncio.ensure_future, concurrency)
    with contextlib.closing(calls):
        for call in calls:
            yield check(await call)
