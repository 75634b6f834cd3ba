"""A served model, which may become another one while the page is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.client import AsyncClient
from simcse_tf.core.errors import UserError
from simcse_tf.quantization import truncate
from simcse_tf.web.models import Away, Role, TextModel

if TYPE_CHECKING:
    from simcse_tf.web.tokens import Reading

# Checks what a function from texts to embeddings gives for documents.
Check = Callable[[Callable[[list[str]], np.ndarray]], None]

# Goes along with every request. If its embedding is another one than before, so is the
# model, or another server answers: versions have numbers that say nothing across
# servers. It is longer than any model reads, so that it also tells where texts are cut.
_PROBE = " ".join(f"number {i} of the probe," for i in range(3000))
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
            probes = {
                output: (await self._ask([_PROBE], output))[0]
                for output in self._outputs.values()
            }
            # Not one model for the first of them and another for the last.
            if not _is_near(before, probes[self._outputs["document"]], _SAME_COSINE):
                raise UserError(f"{self._client.target}: the model is being changed")
            if self._twin:
                await self._compare(self._twin, probes[self._outputs["query"]])
            self._probes = probes

    async def embed(self, texts: list[str], role: Role) -> np.ndarray:
        """See `TextModel`."""
        try:
            rows = await self._embed_as_before(texts, role)
            if rows is None:
                await self.check()
                rows = await self._embed_as_before(texts, role)
            if rows is None:
                raise UserError(f"{self._client.target}: the model is being changed")
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
        rows = await self._ask([*texts, _PROBE], output)
        if not _is_near(rows[-1], self._probes.get(output), _SAME_COSINE):
            return None
        return rows[:-1]

    async def _checked_probe(self) -> np.ndarray:
        """The probe as a document, out of the answer that was checked."""
        loop = asyncio.get_running_loop()
        output = self._outputs["document"]
        probes = await self._ask([_PROBE], output)

        def embed(texts: list[str]) -> np.ndarray:
            nonlocal probes
            asked = self._ask([*texts, _PROBE], output)
            rows = asyncio.run_coroutine_threadsafe(asked, loop).result()
            probes = rows[-1:]
            return rows[:-1]

        await asyncio.to_thread(self._check_documents, embed)
        return probes[0]

    async def _compare(self, twin: TextModel, probe: np.ndarray) -> None:
        """Checks that the model in this process reads queries as the server does."""
        [own] = await twin.embed([_PROBE], "query")
        [served] = truncate(probe[None], self._dimension)
        if not _is_near(own, served, _ALIKE_COSINE):
            raise UserError(
                f"the model here and the one at {self._client.target} embed a query "
                "differently: expected the same prompt for queries and max_length"
            )

    async def _ask(self, texts: list[str], output: str) -> np.ndarray:
        return await self._client.encode(texts, output, _SECONDS)


def _is_near(row: np.ndarray, other: np.ndarray | None, least: float) -> bool:
    if other is None or row.shape != other.shape:
        return False
    return float(row @ other) >= least
