"""A request for embeddings: JSON, read and checked."""

import codecs
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from simcse_tf.openai_api.errors import ApiError, quoted

MOST_INPUTS = 2048  # OpenAI's own limit

TOKEN_IDS = (
    "expected texts, received token ids, which belong to another model's vocabulary: "
    "send strings (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


def _texts(received: Any) -> list[str]:
    if isinstance(received, str):
        return [received]
    if not isinstance(received, list):
        raise _wrong("expected a string or a list of strings")
    if not received:
        raise _wrong("expected one text at least, received an empty list")
    if len(received) > MOST_INPUTS:
        raise _wrong(
            f"expected at most {MOST_INPUTS} texts, received {len(received)}: send "
            f"them in several requests"
        )
    for number, text in enumerate(received):
        if not isinstance(text, str):
            if type(text) is int or _is_list_of_ids(text):
                raise _wrong(TOKEN_IDS)
            raise _wrong(f"expected strings, received another value at place {number}")
    return received


def _is_list_of_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and type(value[0]) is int


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong_input", "{message}", {"message": message})


class EmbeddingsRequest(BaseModel):
    """What `POST /v1/embeddings` asks for.

    A field that is null is as if it were not there. Other fields are refused, as OpenAI
    does: one that is ignored might have asked for another embedding.

    Attributes:
        model: The name of a model.
        input: The texts. One text may come without a list.
        encoding_format: "float", the default, or "base64": little-endian float32.
        dimensions: How many numbers an embedding shall have; by default all.
        user: Read by nobody.
        input_type: "query" or "document", for a model with prompts for them. OpenAI has
            no such field.
        truncate: Whether a text that is too long is cut, the default, or refused.
            OpenAI has no such field.

    Example:

    ```python
    EmbeddingsRequest(model="simcse", input="A man is playing a guitar.")
    ```

    Reference:

    - [Create embeddings](https://platform.openai.com/docs/api-reference/embeddings/create)
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True
    )

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[list[str], PlainValidator(_texts)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    input_type: Literal["query", "document"] | None = None
    truncate: bool | None = None


def parse_request(body: bytes) -> EmbeddingsRequest:
    """Reads a request's body.

    Args:
        body: bytes. What the client sent.

    Raises:
        ApiError: If it is no such request; the message says what was expected.

    Example:

    ```python
    parse_request(b'{"model": "simcse", "input": ["A man plays."]}').input
    ```
    """
    try:
        return EmbeddingsRequest.model_validate_json(body.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        raise _told(error.errors(include_url=False, include_input=False)[0]) from None


def _told(mistake: ErrorDetails) -> ApiError:
    """The first mistake, as OpenAI tells of one."""
    kind, place = mistake["type"], mistake["loc"]
    if kind == "json_invalid":
        return ApiError(400, f"expected JSON: {mistake['msg']}")
    if not place:
        return ApiError(400, "expected a JSON object")
    field = str(place[0])
    if kind == "extra_forbidden":
        fields = ", ".join(EmbeddingsRequest.model_fields)
        return ApiError(
            400,
            f"unknown field {quoted(field)}: expected {fields}",
            field if len(field) < 100 else None,
            "unknown_parameter",
        )
    if kind == "missing":
        return ApiError(400, f"{field}: expected a value, received none", field)
    return ApiError(400, f"{field}: {mistake['msg']}", field)
