"""One index with the model that answers for it: one column of the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.web.models import TextModel
from simcse_tf.web.projection import on_a_plane

if TYPE_CHECKING:
    from simcse_tf.indexing.index import Index

_Result = TypeVar("_Result")

# Texts of the index that the page proposes as queries: so many, looked for among so
# many, none longer.
_EXAMPLES = 3
_LOOKED_AT = 60
_SHORT = 70


class Side:
    """An index and the model that embeds for it.

    Args:
        index: The index.
        model: The model that built it.
        name: string. What the page calls it.

    Example:

    ```python
    await Side(index, model, "wiki").search("a guitar", 5)
    ```
    """

    def __init__(self, index: Index, model: TextModel, name: str):
        self.index = index
        self.model = model
        self.name = name
        # One search at a time: what nobody waits for any more is never begun.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")

    async def search(
        self,
        query: str,
        k: int,
        threshold: float | None = None,
        where: Any = None,
    ) -> dict[str, Any]:
        """The texts nearest to a query, and how they lie.

        Args:
            query: string.
            k: int. As for `Index.search`.
            threshold: Optional float. As for `Index.search`.
            where: As for `Index.search`.

        Returns:
            `hits`, `plane`, `reading` and `seconds` in JSON's types.

        Raises:
            Away: If the model does not answer.
            UserError: If the index cannot be searched so.
        """
        start = time.perf_counter()
        vectors = await self.model.embed([query], "query")

        def find() -> tuple[list[Any], np.ndarray]:
            [hits] = self.index.search(vectors, k, threshold=threshold, where=where)
            rows = np.array([hit.row for hit in hits], np.int64)
            return hits, self.index.vectors(rows)

        hits, neighbours = await self._run(find)
        seconds = time.perf_counter() - start
        plane = on_a_plane(np.concatenate([vectors, neighbours]))
        reading = await self.model.reading(query)
        return {
            "hits": [
                {
                    "id": hit.id,
                    "text": hit.text,
                    "cosine": hit.cosine,
                    "metadata": hit.metadata,
                }
                for hit in hits
            ],
            "plane": {"points": plane.points.tolist(), "kept": plane.kept},
            "reading": None if reading is None else reading.as_json(),
            "seconds": seconds,
        }

    async def similarity(self, a: str, b: str) -> dict[str, Any]:
        """The cosine of two sentences.

        Args:
            a: string.
            b: string.

        Returns:
            `cosine` and `seconds`.

        Raises:
            Away: If the model does not answer.
        """
        start = time.perf_counter()
        rows = l2_normalize(await self.model.embed([a, b], "sentence"), np.float64)
        cosine = round(float(rows[0] @ rows[1]), 6)
        return {"cosine": cosine, "seconds": time.perf_counter() - start}

    async def about(self) -> dict[str, Any]:
        """What the page says of the index."""
        manifest = self.index.manifest
        return {
            "name": self.name,
            "model": manifest.model,
            "kind": manifest.candidates.kind,
            "rows": manifest.live_rows,
            "dimension": self.index.dimension,
            "columns": dict(manifest.columns),
            "examples": await self._run(self._examples),
        }

    async def warm_up(self) -> None:
        """Searches once: the first time takes seconds.

        Raises:
            Away: If the model does not answer.
        """
        await self.search("The first search takes longer.", 1)

    async def close(self) -> None:
        """Closes the model's connection, or ends its thread."""
        self._thread.shutdown(cancel_futures=True)
        await self.model.close()

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _examples(self) -> list[str]:
        """Some short texts from all over the index."""
        rows = np.flatnonzero(self.index.live)
        if not len(rows):
            return []
        places = np.linspace(0, len(rows) - 1, min(_LOOKED_AT, len(rows))).astype(int)
        texts = self.index.texts(rows[places])
        short = [text for text in dict.fromkeys(texts) if 8 <= len(text) <= _SHORT]
        apart = max(1, len(short) // _EXAMPLES)
        return short[::apart][:_EXAMPLES]
