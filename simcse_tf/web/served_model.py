"""A served model, which may become another one while the page is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.client import AsyncClient, protocol
from simcse_tf.core.errors import UserError
from simcse_tf.quantization import truncate
from simcse_tf.web.models import Away, Role, TextModel

if TYPE_CHECKING:
    from simcse_tf.web.tokens import Reading

# Checks what a function from texts to embeddings gives for documents.
Check = Callable[[Callable[[list[str]], np.ndarray]], None]

# Goes along with every request. If its embedding is another one than before, so is the
# model: a version's number says nothing where another server answers.
_PROBE = "Two dogs run through the snow."
# Longer than models read: where they cut it shows.
_LONG = " ".join(f"dog {i} and" for i in range(3000))
# Batches and processors make less of a difference.
_SAME_COSINE = 1 - 1e-5
_ALIKE_COSINE = 1 - 1e-4
_SECONDS = 20.0


class ServedModel:
    """A `TextModel` on a server.

    The server is asked for a few texts whose embeddings are known before its first
    answer counts, and again whenever it may have changed.

    Args:
        client: The connection, which should try once.
        dimension: int. How many of an embedding's dimensions are kept, the first ones.
        check: Raises `UserError` if documents get other embeddings than they should.
        twin: Optional. The same model in this process, which knows its tokens.

    Example:

    ```python
    model = ServedModel(client, 384, functools.partial(check_same_embeddings, index))
    await model.check()
    await model.embed(["A man plays."], "query")
    ```
    """

    def __init__(
        self,
        client: AsyncClient,
        dimension: int,
        check: Check,
        twin: TextModel | None = None,
    ):
        self._client = client
        self._dimension = dimension
        self._check_documents = check
        self._twin = twin
        self._outputs: dict[Role, str] = {}
        # The probe's embedding by output, once the model is checked.
        self._probes: dict[str, np.ndarray] = {}
        self._version = 0
        self._checking = asyncio.Lock()

    async def check(self) -> None:
        """Makes sure that the server has the right model now.

        Raises:
            UserError: If it has another one, or does not answer (`ServerError`).
        """
        async with self._checking:
            self._probes = {}
            signatures = await self._client.metadata(_SECONDS)
            has_roles = "serving_query" in signatures
            self._outputs = {
                "query": "query" if has_roles else "float32",
                "document": "document" if has_roles else "float32",
                "sentence": "float32",
            }
            before = await self._checked_probe()
            if self._twin:
                await self._compare(self._twin)
            probes, versions = {}, set()
            for output in self._outputs.values():
                answer = await self._ask([_PROBE], output)
                probes[output] = answer.array[0]
                versions.add(answer.version)
            # Not one model for the first of these requests and another for the last.
            after = probes[self._outputs["document"]]
            if not _is_near(before, after, _SAME_COSINE) or len(versions) > 1:
                raise self._changing()
            self._probes = probes
            [self._version] = versions

    async def embed(self, texts: list[str], role: Role) -> np.ndarray:
        """See `TextModel`."""
        try:
            rows = await self._embed_as_before(texts, role)
            if rows is None:
                await self.check()
                rows = await self._embed_as_before(texts, role)
            if rows is None:
                raise self._changing()
        except UserError as error:
            self._probes = {}
            raise Away(str(error)) from error
        return truncate(rows, self._dimension)

    async def reading(self, text: str) -> Reading | None:
        """See `TextModel`."""
        return await self._twin.reading(text) if self._twin else None

    async def close(self) -> None:
        """See `TextModel`."""
        await self._client.close()
        if self._twin:
            await self._twin.close()

    async def _embed_as_before(self, texts: list[str], role: Role) -> np.ndarray | None:
        """Embeddings, or nothing if the model is not known to be the same."""
        if not self._probes:
            return None
        output = self._outputs[role]
        *rows, probe = (answer := await self._ask([*texts, _PROBE], output)).array
        is_same = _is_near(probe, self._probes.get(output), _SAME_COSINE)
        return np.stack(rows) if is_same and answer.version == self._version else None

    async def _checked_probe(self) -> np.ndarray:
        """The probe as a document, out of the answer that was checked."""
        loop = asyncio.get_running_loop()
        output = self._outputs["document"]
        probes = (await self._ask([_PROBE], output)).array

        def embed(texts: list[str]) -> np.ndarray:
            nonlocal probes
            asked = self._ask([*texts, _PROBE], output)
            rows = asyncio.run_coroutine_threadsafe(asked, loop).result().array
            probes = rows[-1:]
            return rows[:-1]

        await asyncio.to_thread(self._check_documents, embed)
        return probes[0]

    async def _compare(self, twin: TextModel) -> None:
        """Checks that the model in this process reads queries as the server does."""
        [own] = await twin.embed([_LONG], "query")
        answer = await self._ask([_LONG], self._outputs["query"])
        [served] = truncate(answer.array, self._dimension)
        if not _is_near(own, served, _ALIKE_COSINE):
            raise UserError(
                f"the model here and the one at {self._client.target} embed a query "
                "differently: expected the same prompt for queries and max_length"
            )

    async def _ask(self, texts: list[str], output: str) -> protocol.Answer:
        # As the client's own `encode`, which does not say which version answered.
        raw = [text.encode("utf-8", "surrogatepass") for text in texts]
        wanted = protocol.embedding_output(output)
        end = time.monotonic() + _SECONDS
        return await self._client.stub.predict(wanted, {"text": raw}, end)

    def _changing(self) -> UserError:
        return UserError(f"the model at {self._client.target} is being changed")


def _is_near(row: np.ndarray, other: np.ndarray | None, least: float) -> bool:
    if other is None or row.shape != other.shape:
        return False
    return float(row @ other) >= least
