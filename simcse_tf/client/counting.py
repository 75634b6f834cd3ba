"""The signatures that tell how much of a text was read: requests and responses."""

from collections.abc import Sequence
from typing import NamedTuple

import grpc
import numpy as np

from simcse_tf.client import messages_pb2
from simcse_tf.client.protocol import Output, Signatures, predict_request
from simcse_tf.client.responses import no_rows, read_prediction
from simcse_tf.client.retry import ServerError
from simcse_tf.core.errors import UserError

# By the kind of embeddings that are counted too: what the texts are.
ROLES = {"float32": None, "query": "query", "document": "document"}


class Counted(NamedTuple):
    """Embeddings of `n` texts, and how much the model read of each.

    Attributes:
        embeddings: float32 array of shape `(n, dim)`.
        tokens: int32 array of shape `(n,)`. Tokens that the model read, with those of
            a prompt and those that begin and end each text.
        truncated: bool array of shape `(n,)`. Whether the text had more.
        version: The version of the model that answered; 0 for no texts.
    """

    embeddings: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray
    version: int


class TextTooLong(UserError):
    """A text has more tokens than the model reads.

    Args:
        place: The text's number, from 0.
        limit: How many tokens the model reads.

    Attributes:
        place: As given.
        limit: As given.

    Example:
    ```python
    try:
        embeddings = client.encode(texts, truncate=False)
    except TextTooLong as error:
        print(texts[error.place])
    ```
    """

    def __init__(self, place: int, limit: int):
        super().__init__(
            f"texts[{place}]: expected at most {limit} tokens, which the model reads, "
            f"received more: shorten it, or allow that it is cut"
        )
        self.place = place
        self.limit = limit


def role_of(output: str) -> str | None:
    """Returns what texts are whose embeddings are counted too.

    Args:
        output: The kind of embeddings: "float32", "query" or "document".

    Raises:
        UserError: No signature counts the tokens of that kind.

    Example:
    ```python
    role_of("query")  # "query"
    ```
    """
    if output not in ROLES:
        raise UserError(
            f"output: expected one of {', '.join(ROLES)}, the kinds whose tokens are "
            f"counted, received {output!r}"
        )
    return ROLES[output]


def outputs_of(role: str | None) -> list[Output]:
    """Returns the outputs that `Counted` is made of.

    Args:
        role: "query", "document" or None.

    Example:
    ```python
    outputs_of("query")[0].signature  # "serving_query_tokens"
    ```
    """
    signature = f"serving_{role}_tokens" if role else "serving_tokens"
    return [
        Output(signature, "embedding", "float32"),
        Output(signature, "tokens", "int32", rank=1),
        Output(signature, "truncated", "bool", rank=1),
    ]


def counted_request(
    spec: messages_pb2.ModelSpec, texts: Sequence[bytes], role: str | None
) -> messages_pb2.PredictRequest:
    """Builds the request for embeddings and token counts.

    Args:
        spec: The model and its version, without a signature.
        texts: What is embedded.
        role: "query", "document" or None.

    Example:
    ```python
    spec = messages_pb2.ModelSpec(name="simcse")
    counted_request(spec, [b"A man plays."], None)
    ```
    """
    first, *others = outputs_of(role)
    request = predict_request(spec, first, {"text": texts})
    request.output_filter.extend(other.name for other in others)
    return request


def read_counted(
    response: messages_pb2.PredictResponse, rows: int, role: str | None
) -> Counted:
    """Reads what `counted_request` asked for.

    Args:
        response: The server's response.
        rows: How many texts were sent.
        role: As in the request.

    Raises:
        UserError: The response does not fit the request.

    Example:
    ```python
    read_counted(response, rows=1, role=None).tokens  # array([7], dtype=int32)
    ```
    """
    embeddings, tokens, truncated = (
        read_prediction(response, each, rows) for each in outputs_of(role)
    )
    return Counted(embeddings.array, tokens.array, truncated.array, embeddings.version)


def nothing(signatures: Signatures, output: str) -> Counted:
    """Returns the answer to no texts.

    Args:
        signatures: The model's.
        output: The kind of embeddings: "float32", "query" or "document".

    Raises:
        UserError: No signature counts the tokens of that kind.

    Example:
    ```python
    nothing(signatures, "float32").embeddings.shape  # (0, dim)
    ```
    """
    embeddings, tokens, truncated = outputs_of(role_of(output))
    return Counted(
        no_rows(signatures, output, embeddings),
        np.empty(0, tokens.dtype),
        np.empty(0, truncated.dtype),
        version=0,
    )


def joined(parts: Sequence[Counted]) -> Counted:
    """Joins answers of one version, at least one.

    Example:
    ```python
    joined([counted, counted]).tokens.shape  # (2 * n,)
    ```
    """
    return Counted(
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.truncated for part in parts]),
        parts[0].version,
    )


def check_whole(counted: Counted, first: int) -> None:
    """Checks that no text was cut.

    Args:
        counted: The answer.
        first: The number of its first text.

    Raises:
        TextTooLong: One was.

    Example:
    ```python
    check_whole(counted, first=64)
    ```
    """
    if counted.truncated.any():
        place = int(counted.truncated.argmax())
        raise TextTooLong(first + place, int(counted.tokens[place]))


def explained(error: ServerError, role: str | None) -> UserError:
    """Returns the error to raise where a request for counts was refused.

    Args:
        error: The refusal.
        role: As in the request.

    Example:
    ```python
    raise explained(error, None) from None
    ```
    """
    signature = outputs_of(role)[0].signature
    missing = error.code is grpc.StatusCode.FAILED_PRECONDITION
    if not (missing and signature in error.details):
        return error
    having = f", which has a prompt for {role}," if role else ""
    return UserError(
        f"expected a signature {signature} in the model, received one without token "
        f"counts: export the model{having} again with this version of simcse_tf"
    )
