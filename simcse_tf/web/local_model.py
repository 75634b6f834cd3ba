"""A model in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from simcse_tf.model.bulk import encode
from simcse_tf.quantization import truncate
from simcse_tf.web.models import Role
from simcse_tf.web.tokens import Reading, reading_of_text

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class LocalModel:
    """A `TextModel` in this process.

    Args:
        model: A `simcse_tf.SimCSE`. Its prompt is taken from it and put before the
            texts here: another prompt in the graph takes a second to trace.
        dimension: int. How many of an embedding's dimensions are kept, the first ones.

    Example:

    ```python
    await LocalModel(model, model.embedding_dim).embed(["A man plays."], "query")
    ```
    """

    def __init__(self, model: SimCSE, dimension: int):
        self._model = model
        self._dimension = dimension
        self._prompts = {
            "query": model.prompts.get("query", model.prompt),
            "document": model.prompts.get("document", model.prompt),
            "sentence": model.prompt,
        }
        model.prompt = ""
        # One after the other: what nobody waits for any more is then never begun.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def embed(self, texts: list[str], role: Role) -> np.ndarray:
        """See `TextModel`."""
        return await self._run(self._embed, texts, role)

    async def reading(self, text: str) -> Reading:
        """See `TextModel`."""
        text = self._prompts["query"] + text
        return await self._run(reading_of_text, self._model, text)

    async def close(self) -> None:
        """See `TextModel`."""
        self._thread.shutdown(cancel_futures=True)

    def _embed(self, texts: list[str], role: Role) -> np.ndarray:
        texts = [self._prompts[role] + text for text in texts]
        rows = encode(self._model, texts)
        return truncate(rows, self._dimension)

    async def _run(
        self,
        work: Callable[_Arguments, _Result],
        *arguments: _Arguments.args,
        **options: _Arguments.kwargs,
    ) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, lambda: work(*arguments, **options)
        )
