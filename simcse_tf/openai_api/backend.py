"""What stands behind the API: models that embed texts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from simcse_tf.openai_api.embeddings_request import EmbeddingsRequest
from simcse_tf.openai_api.errors import ApiError

# The signatures that return token counts beside embeddings, by what the texts are.
SIGNATURES: Mapping[str | None, str] = {
    None: "serving_tokens",
    "query": "serving_query_tokens",
    "document": "serving_document_tokens",
}
TRUNCATED = "serving_"  # and a number of dimensions


class ModelInfo(NamedTuple):
    """What is known of a model.

    Attributes:
        id: string. Its name.
        version: int. The version that answers.
        dimension: int. Numbers in an embedding.
        dimensions: ints that a request may ask for, in rising order.
        input_types: strings that a request may ask for.
        max_length: Optional int. Tokens at which a text is cut, where it is known.
    """

    id: str
    version: int
    dimension: int
    dimensions: tuple[int, ...]
    input_types: tuple[str, ...]
    max_length: int | None = None


class Embedded(NamedTuple):
    """The answer of one version of a model.

    Attributes:
        embeddings: float32 array of shape `(n, dim)`, rows of unit length.
        tokens: int array of shape `(n,)`. Tokens that the model read of each text.
        truncated: bool array of shape `(n,)`. Whether a text had more.
        version: int.
    """

    embeddings: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray
    version: int


class Backend(Protocol):
    """Models that embed texts. Its methods raise `ApiError`."""

    @property
    def models(self) -> Sequence[str]:
        """The names of the models."""
        ...

    async def describe(self, model: str) -> ModelInfo:
        """What is known of a model.

        Args:
            model: string. Its name.
        """
        ...

    async def embed(self, request: EmbeddingsRequest) -> Embedded:
        """Embeds the texts of a request, all by one version of the model.

        It refuses what `check_supported` refuses of that version. The embeddings have
        all dimensions, and texts that are too long are cut, whatever was asked for.

        Args:
            request: What a client asks for.
        """
        ...

    async def check_ready(self) -> None:
        """Raises an error while a request would not be answered."""
        ...


def describe(
    model: str,
    version: int,
    widths: Mapping[str, int],
    max_length: int | None = None,
) -> ModelInfo:
    """Reads off a model's signatures what may be asked of it.

    Args:
        model: string. Its name.
        version: int. The version whose signatures these are.
        widths: By signature, how many numbers its output `embedding` has, -1 where that
            is not known. Other signatures are not in it.
        max_length: Optional int. Tokens at which a text is cut.

    Raises:
        ApiError: If no signature returns token counts.

    Example:

    ```python
    describe("simcse", 1, {"serving_tokens": 384, "serving_128": 128}).dimensions
    # (128, 384)
    ```
    """
    plain = SIGNATURES[None]
    if plain not in widths:
        raise ApiError(
            400,
            f"model {model} has no signature {plain}, which counts tokens: export the "
            f"model again with this version of simcse_tf",
            "model",
            "no_token_counts",
        )
    dimension = widths[plain]
    smaller = {
        int(name.removeprefix(TRUNCATED))
        for name in widths
        if name.removeprefix(TRUNCATED).isdecimal()
    }
    return ModelInfo(
        model,
        version,
        dimension,
        tuple(sorted({*smaller, dimension})),
        tuple(role for role, name in SIGNATURES.items() if role and name in widths),
        max_length,
    )


def check_supported(request: EmbeddingsRequest, model: ModelInfo) -> None:
    """Refuses what a model was not exported for.

    Args:
        request: What a client asks for.
        model: The model that shall answer.

    Raises:
        ApiError: If the model has no such `dimensions` or `input_type`.

    Example:

    ```python
    check_supported(request, await backend.describe(request.model))
    ```
    """
    if request.dimensions not in (None, *model.dimensions):
        sizes = ", ".join(map(str, model.dimensions))
        raise ApiError(
            400,
            f"dimensions: model {model.id} has {sizes}, received {request.dimensions}",
            "dimensions",
        )
    if request.input_type not in (None, *model.input_types):
        has = ", ".join(model.input_types) or "no prompts, so no input_type"
        raise ApiError(
            400,
            f"input_type: model {model.id} has {has}, received {request.input_type}",
            "input_type",
        )


def check_whole(request: EmbeddingsRequest, embedded: Embedded) -> None:
    """Refuses texts that were cut, where the request wants them whole.

    Args:
        request: What a client asks for.
        embedded: The model's answer.

    Raises:
        ApiError: If `truncate` is false, and a text was longer than the model reads.

    Example:

    ```python
    check_whole(request, await backend.embed(request))
    ```
    """
    if request.truncate is not False or not embedded.truncated.any():
        return
    first = int(np.argmax(embedded.truncated))
    raise ApiError(
        400,
        f"input: the text at place {first} has more tokens than the "
        f"{embedded.tokens[first]} that model {request.model} reads: send it in parts, "
        f"or without truncate: false",
        "input",
        "context_length_exceeded",
    )
