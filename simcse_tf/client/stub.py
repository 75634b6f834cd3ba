"""The requests to one model on a server."""

import asyncio
import math
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from simcse_tf.client import counting, hits, messages_pb2, protocol, responses
from simcse_tf.client.connection import Connection
from simcse_tf.client.counting import Counted
from simcse_tf.client.hits import Hits
from simcse_tf.client.protocol import SIMILARITY, Answer, Output, Signatures, Text
from simcse_tf.client.retry import Retry, ServerError

# What a server answers, or does not, while the model is being loaded.
NOT_READY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
POLL_SECONDS = 0.2

ONCE = Retry(attempts=1)


class ModelStub:
    """What one model, or one version of it, can be asked.

    Every request raises `ServerError` if the server cannot be reached or answers with
    an error. A `deadline` is the seconds that a call may take in all, or None.

    Args:
        connection: How requests are sent.
        model: The model's name on the server.
        version: The model's version; by default the newest that is loaded.
        label: The version's label, in place of `version`.
        batch_size: The most texts in one request.

    Example:
    ```python
    stub = ModelStub(connection, "simcse", version=None, label=None, batch_size=64)
    await stub.status(deadline=5.0)  # {1: "AVAILABLE"}
    ```
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        version: int | None,
        label: str | None,
        batch_size: int,
    ):
        self._batch_size = batch_size
        self._spec = messages_pb2.ModelSpec(name=model, version_label=label)
        if version is not None:
            self._spec.version.value = version
        self._predict = connection.method(
            protocol.PREDICT, messages_pb2.PredictResponse
        )
        self._get_status = connection.method(
            protocol.GET_MODEL_STATUS, messages_pb2.GetModelStatusResponse
        )
        self._get_metadata = connection.method(
            protocol.GET_MODEL_METADATA, messages_pb2.GetModelMetadataResponse
        )

    async def predict(
        self,
        output: Output,
        inputs: Mapping[str, Sequence[bytes]],
        end: float,
        retry: Retry | None = None,
    ) -> Answer:
        """Computes one output of a signature.

        Args:
            output: What is asked for.
            inputs: As many texts for each input of the signature, by name.
            end: When the call has to end, by `time.monotonic()`.
            retry: In place of the connection's own.

        Returns:
            One row a text, and the version that answered.
        """
        request = protocol.predict_request(self._spec, output, inputs)
        response = await self._predict(request, end, retry)
        rows = len(next(iter(inputs.values())))
        return responses.read_prediction(response, output, rows)

    async def counted(
        self,
        texts: Sequence[bytes],
        role: str | None,
        end: float,
        retry: Retry | None = None,
    ) -> Counted:
        """Embeds texts, and tells how much was read of each.

        Args:
            texts: No more than fit into one request.
            role: "query", "document" or None.
            end: As for `predict`.
            retry: As for `predict`.

        Raises:
            UserError: The model has no signature that counts tokens.
        """
        request = counting.counted_request(self._spec, texts, role)
        try:
            response = await self._predict(request, end, retry)
        except ServerError as error:
            raise counting.explained(error, role) from None
        return counting.read_counted(response, len(texts), role)

    def embedding_requests(
        self,
        texts: Iterable[Text],
        output: str,
        deadline: float | None,
        truncate: bool = True,
    ) -> Iterator[Coroutine[Any, Any, Answer]]:
        """Yields coroutines that each embed one batch of texts.

        Args:
            texts: Read no further than the batch that is yielded.
            output: The kind of embeddings, such as "float32".
            deadline: See above.
            truncate: Whether long texts are cut; they are refused otherwise.

        Raises:
            UserError: There is no such output.
        """
        wanted = protocol.embedding_output(output)
        role = None if truncate else counting.role_of(output)
        end = _end(deadline)
        first = 0
        for batch in protocol.batches(texts, self._batch_size):
            if truncate:
                yield self.predict(wanted, {"text": batch}, end)
            else:
                yield self._whole(batch, first, role, end)
            first += len(batch)

    async def _whole(
        self, texts: Sequence[bytes], first: int, role: str | None, end: float
    ) -> Answer:
        counted = await self.counted(texts, role, end)
        counting.check_whole(counted, first)
        return Answer(counted.embeddings, counted.version)

    def counted_requests(
        self, texts: Iterable[Text], output: str, deadline: float | None
    ) -> Iterator[Coroutine[Any, Any, Counted]]:
        """Yields coroutines that each embed one batch of texts and count its tokens.

        Args:
            texts: Read no further than the batch that is yielded.
            output: The kind of embeddings, such as "float32".
            deadline: See above.

        Raises:
            UserError: No signature counts the tokens of that kind.
        """
        role, end = counting.role_of(output), _end(deadline)
        for batch in protocol.batches(texts, self._batch_size):
            yield self.counted(batch, role, end)

    def similarity_requests(
        self, texts_a: Sequence[Text], texts_b: Sequence[Text], deadline: float | None
    ) -> Iterator[Coroutine[Any, Any, Answer]]:
        """Yields coroutines that each compare one batch of pairs.

        Args:
            texts_a: The first text of each pair.
            texts_b: The second text of each pair.
            deadline: See above.
        """
        end = _end(deadline)
        for a, b in protocol.column_batches([texts_a, texts_b], self._batch_size):
            yield self.predict(SIMILARITY, {"text_a": a, "text_b": b}, end)

    def search_requests(
        self, texts: Iterable[Text], k: int, deadline: float | None
    ) -> Iterator[Coroutine[Any, Any, Hits]]:
        """Yields coroutines that each find the neighbours of one batch of texts.

        Args:
            texts: Read no further than the batch that is yielded.
            k: How many neighbours each text gets.
            deadline: See above.

        Raises:
            UserError: `k` is out of range.
        """
        hits.check_k(k)
        end = _end(deadline)
        for batch in protocol.batches(texts, self._batch_size):
            yield self._search(batch, k, end)

    async def _search(self, texts: Sequence[bytes], k: int, end: float) -> Hits:
        request = hits.search_request(self._spec, texts, k)
        return hits.read_hits(await self._predict(request, end), len(texts), k)

    async def status(self, deadline: float | None) -> dict[int, str]:
        """Returns the state of each version, by number."""
        request = messages_pb2.GetModelStatusRequest(model_spec=self._spec)
        return responses.read_status(await self._get_status(request, _end(deadline)))

    async def wait_until_ready(self, timeout: float) -> None:
        """Waits until the model answers a prediction, `timeout` seconds at most."""
        end = time.monotonic() + timeout
        output = protocol.embedding_output("float32")
        while True:
            # The last try may start at the end; it still needs some time.
            until = max(end, time.monotonic() + POLL_SECONDS)
            try:
                await self.predict(output, {"text": [b""]}, until, ONCE)
                return
            except ServerError as error:
                if error.code not in NOT_READY or time.monotonic() >= end:
                    raise
            await asyncio.sleep(POLL_SECONDS)

    async def metadata(self, deadline: float | None) -> Signatures:
        """Returns the signatures by name."""
        request = messages_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=[protocol.SIGNATURE_DEF]
        )
        return responses.read_metadata(
            await self._get_metadata(request, _end(deadline))
        )


def _end(deadline: float | None) -> float:
    return math.inf if deadline is None else time.monotonic() + deadline
