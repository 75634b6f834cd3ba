"""What the page asks of a model, wherever that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from simcse_tf.web.tokens import Reading

# The two sides of a search stand behind the model's prompts of these names, a sentence
# of a pair behind the prompt that it puts before texts by itself.
Role: TypeAlias = Literal["query", "document", "sentence"]


class Away(Exception):
    """There is no answer now, and there may be one later.

    Example:

    ```python
    raise Away("cannot reach the server at 127.0.0.1:8500")
    ```
    """


class TextModel(Protocol):
    """Embeds texts, and says what it reads of them.

    Example:

    ```python
    async def cosines(model: TextModel, query: str, documents: list[str]):
        return await model.embed(documents, "document") @ (
            await model.embed([query], "query")
        )[0]
    ```
    """

    async def embed(self, texts: list[str], role: Role) -> np.ndarray:
        """Embeddings of texts.

        Args:
            texts: n strings.
            role: What the texts are.

        Returns:
            float32 `(n, dim)`, of unit length.

        Raises:
            Away: If the model does not answer, or has become another one.
        """
        ...

    async def reading(self, text: str) -> Reading | None:
        """What the model reads of a query; `None` where nobody here knows.

        Args:
            text: string.
        """
        ...

    async def close(self) -> None:
        """Ends what was begun for it."""
        ...
