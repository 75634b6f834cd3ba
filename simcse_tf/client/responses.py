"""Reads a served model's responses, and refuses those that do not fit the request."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from simcse_tf.client import messages_pb2
from simcse_tf.client.protocol import SIGNATURE_DEF, Answer, Output, Signatures
from simcse_tf.core.errors import UserError
from simcse_tf.core.printing import LONGEST, printable

# TensorFlow's numbers of the dtypes that a served model can have.
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
# Those that arrays are read of.
READABLE = ("float32", "int8", "uint8", "int32", "bool")
# The most numbers in a row, which decides how much is allocated.
WIDEST = 2**20
STATES = {
    0: "UNKNOWN",
    10: "START",
    20: "LOADING",
    30: "AVAILABLE",
    40: "UNLOADING",
    50: "END",
}

INTERNAL = "__saved_model"  # TensorFlow lists its own initializer as a signature


def read_prediction(
    response: messages_pb2.PredictResponse, output: Output, rows: int
) -> Answer:
    """Reads what `predict_request` asked for.

    Args:
        response: The server's response.
        output: What was asked for.
        rows: How many texts were sent.

    Raises:
        UserError: The response does not fit the request.

    Example:
    ```python
    read_prediction(response, EMBEDDINGS["float32"], rows=1).array.shape  # (1, dim)
    ```
    """
    tensors = {it.key: it.value for it in response.outputs}
    if output.name not in tensors:
        raise UserError(
            f"expected an output {output.name} from the server, received "
            f"{printable(', '.join(sorted(tensors)), LONGEST)}"
        )
    array = to_array(tensors[output.name])
    shape = array.shape
    fits = len(shape) == output.rank and shape[0] == rows and 0 not in shape[1:]
    if array.dtype != output.dtype or not fits:
        raise UserError(
            f"{output.name}: expected {output.dtype} with {rows} rows from the server, "
            f"in {output.rank} dimensions, received {array.dtype} of shape "
            f"{printable(str(shape), LONGEST)}"
        )
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise UserError(
            f"{output.name}: expected finite numbers from the server, received NaN or "
            f"infinity: check the model that it serves"
        )
    return Answer(array, response.model_spec.version.value)


def to_array(tensor: messages_pb2.Tensor) -> np.ndarray:
    """Reads a tensor of float32, int8, uint8, int32 or bool.

    Args:
        tensor: Its values are in `tensor_content`, or in `float_val`, `int_val` or
            `bool_val`, where TF Serving puts them by default.

    Returns:
        The values; not writable.

    Raises:
        UserError: The dtype is another one, or the values do not fill the shape.

    Example:
    ```python
    to_array(response.outputs[0].value).dtype  # float32
    ```
    """
    dtype = DTYPES.get(tensor.dtype, f"number {tensor.dtype}")
    if dtype not in READABLE:
        raise UserError(f"expected {', '.join(READABLE)}, received dtype {dtype}")
    given = tensor.bool_val if dtype == "bool" else tensor.int_val
    packed = tensor.tensor_content or (tensor.float_val if dtype == "float32" else b"")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values = np.empty(0)
    try:
        if packed or not given:
            values = np.frombuffer(packed, np.dtype(dtype).newbyteorder("<"))
        else:
            values = np.array(given, dtype)
        # NumPy would take -1 for "as many as there are".
        if any(size < 0 for size in shape):
            raise ValueError
        return values.reshape(shape)
    except (ValueError, OverflowError):
        raise UserError(
            f"expected {dtype} values for shape {printable(str(shape), LONGEST)} from "
            f"the server, received {values.size}"
        ) from None


def read_status(response: messages_pb2.GetModelStatusResponse) -> dict[int, str]:
    """Returns the states in a `GetModelStatusResponse`, by version.

    Example:
    ```python
    read_status(response)  # {1: "AVAILABLE"}
    ```
    """
    return {
        it.version: STATES.get(it.state, str(it.state))
        for it in response.model_version_status
    }


def read_metadata(response: messages_pb2.GetModelMetadataResponse) -> Signatures:
    """Returns the signatures in a `GetModelMetadataResponse`, by name.

    Raises:
        UserError: The response holds none.

    Example:
    ```python
    read_metadata(response)["serving_default"]["outputs"]
    ```
    """
    packed = {it.key: it.value.value for it in response.metadata}
    try:
        signatures = messages_pb2.Signatures.FromString(
            packed[SIGNATURE_DEF]
        ).signature_def
    except (KeyError, DecodeError):
        raise UserError(
            f"expected {SIGNATURE_DEF} in the server's metadata, received none"
        ) from None
    return {
        it.key: {
            "inputs": _described(it.value.inputs),
            "outputs": _described(it.value.outputs),
        }
        for it in signatures
        if not it.key.startswith(INTERNAL)
    }


def no_rows(signatures: Signatures, kind: str, output: Output) -> np.ndarray:
    """Makes the array of embeddings of no texts.

    Args:
        signatures: What `read_metadata` returned.
        kind: The kind of embeddings, for the message.
        output: The output that gives this kind.

    Returns:
        An array of shape `(0, width)` and the output's dtype.

    Raises:
        UserError: The model has no such signature, or no such output.

    Example:
    ```python
    no_rows(signatures, "float32", EMBEDDINGS["float32"]).shape  # (0, dim)
    ```
    """
    if output.signature not in signatures:
        raise UserError(
            f"output {kind}: expected a signature {output.signature} in the "
            f"model, received {printable(', '.join(sorted(signatures)), LONGEST)}"
        )
    found = signatures[output.signature]["outputs"].get(output.name, {})
    shape = found.get("shape", [])
    if len(shape) != output.rank or not -1 <= shape[-1] <= WIDEST:
        raise UserError(
            f"output {kind}: expected {output.name} with {output.rank} dimensions in "
            f"the model, received {printable(str(found or 'no such output'), LONGEST)}"
        )
    return np.empty((0, max(shape[-1], 0)), output.dtype)


def _described(
    tensors: Iterable[messages_pb2.NamedTensorInfo],
) -> dict[str, dict[str, Any]]:
    return {
        it.key: {
            "dtype": DTYPES.get(it.value.dtype, str(it.value.dtype)),
            "shape": [dim.size for dim in it.value.tensor_shape.dim],
        }
        for it in tensors
    }
