"""The signature `search`: its requests, and the neighbours in its responses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from simcse_tf.client import messages_pb2
from simcse_tf.client.protocol import LARGEST_K, NO_HIT, SEARCH, STRING, add_texts
from simcse_tf.client.responses import DTYPES, to_array
from simcse_tf.core.errors import UserError
from simcse_tf.core.printing import LONGEST, printable

_INT32 = 3
_VARINT_BITS = 28  # before the last group of 32
# Beyond 1, by rounding.
_EXCESS = 1e-5


class Hit(NamedTuple):
    """A neighbour of a text.

    Attributes:
        id: string.
        text: string. Empty in an index without texts.
        cosine: float. To six decimals.
        metadata: The other values of its row.

    Example:
    ```python
    Hit("7", "A man plays a guitar.", 0.912345, {"stars": 5})
    ```
    """

    id: str
    text: str
    cosine: float
    metadata: dict[str, Any]


class Hits(NamedTuple):
    """The neighbours of each text, and the version of the model that found them."""

    of_texts: list[list[Hit]]
    version: int


def check_k(k: int) -> None:
    """Checks how many neighbours are asked for.

    Raises:
        UserError: A served index does not give so many.

    Example:
    ```python
    check_k(10)
    ```
    """
    if not 1 <= k <= LARGEST_K:
        raise UserError(f"k: expected 1 to {LARGEST_K} neighbours, received {k}")


def search_request(
    spec: messages_pb2.ModelSpec, texts: Sequence[bytes], k: int
) -> messages_pb2.PredictRequest:
    """Builds the request for the neighbours of texts.

    Args:
        spec: The model and its version, without a signature.
        texts: What is searched for.
        k: How many neighbours each gets.

    Example:
    ```python
    spec = messages_pb2.ModelSpec(name="simcse")
    search_request(spec, [b"A man plays."], k=10)
    ```
    """
    request = messages_pb2.PredictRequest(model_spec=spec)
    request.model_spec.signature_name = SEARCH
    add_texts(request, "text", texts)
    tensor = request.inputs.add(key="k").value
    tensor.dtype = _INT32
    tensor.tensor_shape.dim.add(size=len(texts))
    tensor.int_val.extend([k] * len(texts))
    return request


def read_hits(response: messages_pb2.PredictResponse, rows: int, k: int) -> Hits:
    """Reads what `search_request` asked for.

    Args:
        response: The server's response. It has more columns than `k` if the server
            has merged the request with one for more neighbours.
        rows: How many texts were sent.
        k: How many neighbours were asked for.

    Raises:
        UserError: The response does not fit the request.

    Example:
    ```python
    read_hits(response, rows=1, k=10).of_texts[0][0].text
    ```
    """
    tensors = {it.key: it.value for it in response.outputs}
    if missing := {"ids", "texts", "cosines"} - tensors.keys():
        raise UserError(
            f"search: expected outputs {', '.join(sorted(missing))} from the server, "
            f"received {printable(', '.join(sorted(tensors)), LONGEST)}"
        )
    cosines = to_array(tensors["cosines"])
    fits = cosines.ndim == 2 and len(cosines) == rows and cosines.shape[1] >= k
    if cosines.dtype != np.float32 or not fits:
        raise UserError(
            f"cosines: expected float32 of shape ({rows}, {k} or more) from the "
            f"server, received {cosines.dtype} of shape "
            f"{printable(str(cosines.shape), LONGEST)}"
        )
    strings = {
        name: _strings(name, tensors[name], cosines.shape)
        for name in ("ids", "texts", "metadata")
        if name in tensors
    }
    width = cosines.shape[1]
    of_texts = [
        list(_hits(cosines[row, :k], strings, row * width)) for row in range(rows)
    ]
    return Hits(of_texts, response.model_spec.version.value)


def _hits(
    cosines: np.ndarray, strings: dict[str, list[str]], first: int
) -> Iterator[Hit]:
    for place, cosine in enumerate(cosines.tolist(), start=first):
        if cosine == NO_HIT:
            return
        if not abs(cosine) <= 1 + _EXCESS:
            raise UserError(
                f"cosines: expected numbers from -1 to 1 from the server, received "
                f"{cosine}: check the model that it serves"
            )
        values = {name: column[place] for name, column in strings.items()}
        metadata = _metadata(values["metadata"]) if "metadata" in values else {}
        # As a float32 it has digits that say nothing.
        yield Hit(values["ids"], values["texts"], round(cosine, 6), metadata)


def _metadata(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError(
            f"metadata: expected a JSON object from the server, received "
            f"{printable(text, LONGEST)}"
        )
    return values


def _strings(
    name: str, tensor: messages_pb2.Tensor, shape: tuple[int, ...]
) -> list[str]:
    received = tuple(dim.size for dim in tensor.tensor_shape.dim)
    values = [*tensor.string_val] or _unpacked(tensor.tensor_content, math.prod(shape))
    if tensor.dtype != STRING or received != shape or len(values) != math.prod(shape):
        dtype = DTYPES.get(tensor.dtype, f"number {tensor.dtype}")
        raise UserError(
            f"{name}: expected strings of shape {shape} from the server, received "
            f"{len(values)} of dtype {dtype} and shape "
            f"{printable(str(received), LONGEST)}"
        )
    return [value.decode("utf-8", "replace") for value in values]


def _unpacked(content: bytes, count: int) -> list[bytes]:
    """Strings as TF Serving packs them if its flags say so: all lengths, as varints,
    then all contents."""
    lengths: list[int] = []
    position = length = shift = 0
    while len(lengths) < count and position < len(content) and shift <= _VARINT_BITS:
        length |= (content[position] & 0x7F) << shift
        is_last = content[position] < 0x80
        position, shift = position + 1, shift + 7
        if is_last:
            lengths.append(length)
            length = shift = 0
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values if position == len(content) else []
