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
# servers.
_PROBE = "The model that answers is the one that was asked before."
# Batches and processors differ by less; then the check decides.
_SAME_COSINE = 1 - 1e-6
_SECONDS = 20.0


class ServedModel:
    """A `TextModel` on a server.

    The server is asked for a few texts whose embeddings are known before its first
    answer counts, and again whenever it may have changed.

    Args:
        client: The connection, which should try once.
        dimension: int. How many of an embedding's dimensions are kept, the first ones.
        check: Raises `UserError` if documents get other embeddings than they should.
        tokens: Optional. The same model in this process, which knows its tokens.

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
        tokens: TextModel | None = None,
    ):
        self._client = client
        self._dimension = dimension
        self._check_documents = check
        self._tokens = tokens
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
            probes = {}
            probes[self._outputs["document"]] = await self._checked_probe()
            for output in self._outputs.values():
                if output not in probes:
                    [probes[output]] = await self._ask([_PROBE], output)
            # Not one model for the first of them and another for the last.
            [again] = await self._ask([_PROBE], self._outputs["document"])
            if not _is_same(again, probes[self._outputs["document"]]):
                raise UserError(f"{self._client.target}: the model is being changed")
            self._probes = probes

    async def embed(self, texts: list[str], role: Role) -> np.ndarray:
        """See `TextModel`."""
        try:
            rows = await self._embed_as_before(texts, role)
            if rows is None:
                await self.check()
                rows = await self._embed_as_before(texts, role)
        except UserError as error:
            self._probes = {}
            raise Away(str(error)) from error
        if rows is None:
            raise Away(f"{self._client.target}: the model is being changed")
        return rows

    async def reading(self, text: str) -> Reading | None:
        """See `TextModel`."""
        return await self._tokens.reading(text) if self._tokens else None

    async def close(self) -> None:
        """See `TextModel`."""
        await self._client.close()
        if self._tokens:
            await self._tokens.close()

    async def _embed_as_before(self, texts: list[str], role: Role) -> np.ndarray | None:
        """Embeddings, or nothing if the model is not known to be the same."""
        if not self._probes:
            return None
        output = self._outputs[role]
        rows = await self._ask([*texts, _PROBE], output)
        if not _is_same(rows[-1], self._probes.get(output)):
            return None
        return rows[:-1]

    async def _checked_probe(self) -> np.ndarray:
        """The probe as a document, out of the answer that was checked."""
        loop = asyncio.get_running_loop()
        output = self._outputs["document"]
        probes: list[np.ndarray] = []

        def embed(texts: list[str]) -> np.ndarray:
            asked = self._ask([*texts, _PROBE], output)
            rows = asyncio.run_coroutine_threadsafe(asked, loop).result()
            probes.append(rows[-1])
            return rows[:-1]

        await asyncio.to_thread(self._check_documents, embed)
        return probes[-1]

    async def _ask(self, texts: list[str], output: str) -> np.ndarray:
        rows = await self._client.encode(texts, output, _SECONDS)
        return truncate(rows, min(self._dimension, rows.shape[1]))


def _is_same(row: np.ndarray, before: np.ndarray | None) -> bool:
    if before is None or row.shape != before.shape:
        return False
    return float(row @ before) >= _SAME_COSINE
