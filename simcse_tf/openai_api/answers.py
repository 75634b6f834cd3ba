"""The answers: JSON, in pieces where it is long."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simcse_tf.openai_api.backend import ModelInfo
from simcse_tf.openai_api.embeddings_request import EmbeddingsRequest

# Numbers in a piece: some milliseconds, and half a megabyte as text.
PIECE_NUMBERS = 2**15
OWNER = "simcse_tf"


def pieces(
    request: EmbeddingsRequest, embeddings: np.ndarray, tokens: int
) -> Iterator[bytes]:
    """Writes the answer to a request for embeddings.

    Args:
        request: What was asked for.
        embeddings: float32 array of shape `(n, dim)`, finite.
        tokens: int. How many tokens the texts have.

    Yields:
        Bytes of one JSON object, one after the other.

    Example:

    ```python
    b"".join(pieces(request, embeddings, tokens=7))
    ```
    """
    rows = max(PIECE_NUMBERS // embeddings.shape[1], 1)
    write = _base64 if request.encoding_format == "base64" else _floats
    begin = '{"object":"list","data":['
    for first in range(0, len(embeddings), rows):
        items = ",".join(
            f'{{"object":"embedding","index":{index},"embedding":{text}}}'
            for index, text in enumerate(write(embeddings[first : first + rows]), first)
        )
        last = first + rows >= len(embeddings)
        end = _end(request.model, tokens) if last else ","
        yield f"{begin}{items}{end}".encode()
        begin = ""


def models(names: Sequence[str], created: int) -> bytes:
    """Writes the list of models.

    Args:
        names: strings.
        created: int. Since when they are served, in seconds since 1970.

    Example:

    ```python
    models(["simcse"], created=1764000000)
    ```
    """
    data = [model(name, created) for name in names]
    return json.dumps({"object": "list", "data": data}).encode()


def model(name: str, created: int) -> dict[str, Any]:
    """One of the models.

    Args:
        name: string.
        created: As for `models`.

    Example:

    ```python
    json.dumps(model("simcse", created=1764000000))
    ```
    """
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def info(models: Sequence[ModelInfo], limits: dict[str, int], version: str) -> bytes:
    """Writes what is served, and within which limits.

    Args:
        models: The models.
        limits: Numbers by name.
        version: string. Of this project.

    Example:

    ```python
    info([await backend.describe("simcse")], {"inputs": 2048}, "1.0")
    ```
    """
    described = [one._asdict() for one in models]
    return json.dumps(
        {"version": version, "models": described, "limits": limits}
    ).encode()


def _end(model: str, tokens: int) -> str:
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return f'],"model":{json.dumps(model)},"usage":{json.dumps(usage)}}}'


def _floats(rows: np.ndarray) -> list[str]:
    # Arrow writes the fewest digits that give the same float32 back, and faster than
    # NumPy and `json`.
    count, width = rows.shape
    texts = pc.cast(pa.array(np.ravel(rows)), pa.string())
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * width)
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",")
    return [f"[{row}]" for row in joined.to_pylist()]


def _base64(rows: np.ndarray) -> list[str]:
    return [
        f'"{base64.b64encode(row.tobytes()).decode()}"' for row in rows.astype("<f4")
    ]
