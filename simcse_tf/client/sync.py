"""The client for programs without asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from simcse_tf.client.aio import AsyncClient
from simcse_tf.client.counting import Counted
from simcse_tf.client.hits import Hit
from simcse_tf.client.ordered_requests import ordered_requests
from simcse_tf.client.protocol import SameVersion, Signatures, Text

T = TypeVar("T")


class Client:
    """A connection to a model server that serves a SimCSE export.

    An `AsyncClient` on an event loop in a thread of its own. Safe to call from several
    threads. Does not import TensorFlow.

    Args:
        target: "HOST:PORT" of the server's gRPC port.
        model: The model's name on the server.
        **settings: The settings of `AsyncClient`: `timeout`, `batch_size`, `version`,
            `label`, `concurrency`, `retry`, `tls`, `token`, `options`.

    Raises:
        UserError: A setting is out of range, or a file cannot be read.

    Example:
    ```python
    with Client("127.0.0.1:8500") as client:
        embeddings = client.encode(["A man is playing a guitar."])
    ```
    """

    def __init__(self, target: str, model: str = "simcse", **settings: Any):
        started: Future[tuple[AsyncClient, asyncio.AbstractEventLoop, asyncio.Event]]
        started = Future()
        # The thread knows nothing of this object, which may thus be forgotten
        # without being closed.
        thread = threading.Thread(
            target=lambda: asyncio.run(_run(started, target, model, settings)),
            name="simcse_tf.client",
            daemon=True,
        )
        thread.start()
        self._client, self._loop, stop = started.result()
        self._close = weakref.finalize(self, _stop, thread, self._loop, stop)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls of other threads are cancelled."""
        self._close()

    def encode(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
        *,
        truncate: bool = True,
    ) -> np.ndarray:
        """Embeds texts; see `AsyncClient.encode`.

        Example:
        ```python
        embeddings = client.encode(["A man plays.", "It rains."])
        ```
        """
        rows = list(self.encode_stream(texts, output, deadline, truncate=truncate))
        return np.concatenate(rows) if rows else self.no_embeddings(output, deadline)

    def encode_stream(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
        *,
        truncate: bool = True,
    ) -> Iterator[np.ndarray]:
        """Embeds texts as they come; see `AsyncClient.encode_stream`.

        An iterator is read in the caller's thread, when the next array is asked for.

        Example:
        ```python
        for embeddings in client.encode_stream(open("sentences.txt")):
            index.add(embeddings)
        ```
        """
        same = SameVersion()
        stub = self._client.stub
        requests = stub.embedding_requests(texts, output, deadline, truncate)
        calls = ordered_requests(requests, self._start, self._client.concurrency)
        with contextlib.closing(calls):
            for call in calls:
                yield same.check(_result(call))

    def encode_counted(
        self,
        texts: Iterable[Text],
        output: str = "float32",
        deadline: float | None = None,
    ) -> Counted:
        """Embeds texts and counts tokens; see `AsyncClient.encode_counted`.

        Example:
        ```python
        counted = client.encode_counted(["A man plays.", "It rains."])
        counted.tokens  # array([6, 5], dtype=int32)
        ```
        """
        return self._wait(self._client.encode_counted(texts, output, deadline))

    def similarity(
        self,
        texts_a: Text | Sequence[Text],
        texts_b: Text | Sequence[Text],
        deadline: float | None = None,
    ) -> np.ndarray:
        """Compares texts, pair by pair or one with many; see `AsyncClient.similarity`.

        Example:
        ```python
        scores = client.similarity("A man plays.", ["It rains.", "He plays."])
        ```
        """
        return self._wait(self._client.similarity(texts_a, texts_b, deadline))

    def search(
        self, texts: Iterable[Text], k: int = 10, deadline: float | None = None
    ) -> list[list[Hit]]:
        """Finds the neighbours of texts; see `AsyncClient.search`.

        Example:
        ```python
        [hits] = client.search(["Who plays the guitar?"], k=3)
        ```
        """
        return self._wait(self._client.search(texts, k, deadline))

    def status(self, deadline: float | None = None) -> dict[int, str]:
        """Returns the versions' states; see `AsyncClient.status`.

        Example:
        ```python
        assert "AVAILABLE" in client.status().values()
        ```
        """
        return self._wait(self._client.status(deadline))

    def metadata(self, deadline: float | None = None) -> Signatures:
        """Returns the model's signatures; see `AsyncClient.metadata`.

        Example:
        ```python
        outputs = client.metadata()["serving_default"]["outputs"]
        ```
        """
        return self._wait(self._client.metadata(deadline))

    def no_embeddings(
        self, output: str = "float32", deadline: float | None = None
    ) -> np.ndarray:
        """Returns an array of no rows; see `AsyncClient.no_embeddings`.

        Example:
        ```python
        dim = client.no_embeddings().shape[1]
        ```
        """
        return self._wait(self._client.no_embeddings(output, deadline))

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Waits for a real prediction; see `AsyncClient.wait_until_ready`.

        Example:
        ```python
        client.wait_until_ready(timeout=120)
        ```
        """
        self._wait(self._client.wait_until_ready(timeout))

    def _wait(self, request: Coroutine[Any, Any, T]) -> T:
        return _result(self._start(request))

    def _start(self, request: Coroutine[Any, Any, T]) -> Future[T]:
        if not self._close.alive:
            request.close()
            raise RuntimeError(f"the client of {self._client.target} is closed")
        return asyncio.run_coroutine_threadsafe(request, self._loop)


def _result(call: Future[T]) -> T:
    try:
        return call.result()
    finally:
        # Ctrl-C comes here: without this the request would continue.
        call.cancel()


async def _run(
    started: Future[Any], target: str, model: str, settings: dict[str, Any]
) -> None:
    try:
        client = AsyncClient(target, model, **settings)
    except BaseException as error:
        started.set_exception(error)
        return
    stop = asyncio.Event()
    async with client:
        started.set_result((client, asyncio.get_running_loop(), stop))
        await stop.wait()


def _stop(
    thread: threading.Thread, loop: asyncio.AbstractEventLoop, stop: asyncio.Event
) -> None:
    loop.call_soon_threadsafe(stop.set)
    # A forgotten client may be collected in any thread.
    if thread is not threading.current_thread():
        thread.join()
