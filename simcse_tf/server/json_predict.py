"""Between JSON and `Predict`: TF Serving's row and columnar formats."""

import base64
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import model_pb2, predict_pb2

from simcse_tf.server import status_errors
from simcse_tf.server.servable import (
    DEFAULT_SIGNATURE,
    MOST_NAMES,
    check_input_names,
)

BASE64 = "b64"  # the key that marks an object as a string in base64
BYTES_SUFFIX = "_bytes"  # outputs so named answer in base64

# The JSON types that make an element of each kind of NumPy type.
NUMBERS: dict[str, tuple[type, ...]] = {
    "f": (int, float),
    "i": (int,),
    "u": (int,),
    "b": (bool,),
}

# Not in the JSON standard, but what TF Serving and Python write and read.
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def parse(body: bytes) -> dict[str, Any]:
    """Parses the body of a request.

    Args:
        body: A JSON object. Bytes that are not UTF-8 are kept for the model,
            which knows what to do with them.

    Returns:
        The object.

    Raises:
        tf.errors.InvalidArgumentError: The body is not a JSON object.

    Example:
    ```python
    parse(b'{"instances": ["Yes."]}')  # {"instances": ["Yes."]}
    ```
    """
    try:
        document = json.loads(body.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise status_errors.invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise status_errors.invalid(
            f"request body: expected an object, received {_kind(document)}"
        )
    return document


def is_row_format(document: Mapping[str, Any]) -> bool:
    """Distinguishes the row format, `instances`, from the columnar one, `inputs`.

    Args:
        document: A parsed body.

    Returns:
        Whether the request comes in rows, and so has the response.

    Raises:
        tf.errors.InvalidArgumentError: The document has both, or none.

    Example:
    ```python
    is_row_format({"instances": ["Yes."]})  # True
    ```
    """
    if ("instances" in document) == ("inputs" in document):
        raise status_errors.invalid(
            "expected exactly one of 'instances' and 'inputs' in the request"
        )
    return "instances" in document


def to_request(
    document: Mapping[str, Any],
    spec: model_pb2.ModelSpec,
    find_signature: Callable[[str], SignatureDef],
) -> predict_pb2.PredictRequest:
    """Builds a `Predict` request from a parsed body.

    Args:
        document: `instances` or `inputs`, and perhaps `signature_name`.
        spec: The model and its version.
        find_signature: Looks a signature up by name.

    Returns:
        The request. Names and types are checked; shapes are left to the servable.

    Raises:
        tf.errors.OpError: There is no such signature, or the document does not
            fit it.

    Example:
    ```python
    spec = model_pb2.ModelSpec(name="simcse")
    to_request({"instances": ["Yes."]}, spec, servable.signature)
    ```
    """
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise status_errors.invalid(
            f"'signature_name': expected a string, received {_kind(name)}"
        )
    signature = find_signature(name or DEFAULT_SIGNATURE)
    if is_row_format(document):
        columns = _columns_of_rows(document["instances"], signature)
    else:
        columns = _columns(document["inputs"], signature)
    check_input_names(signature, columns.keys())
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.model_spec.signature_name = name
    for key, values in columns.items():
        dtype = tf.as_dtype(signature.inputs[key].dtype)
        request.inputs[key].CopyFrom(_to_proto(key, values, dtype))
    return request


def to_json(outputs: Mapping[str, np.ndarray], row_format: bool) -> str:
    """Writes the response to a request.

    Args:
        outputs: Arrays by name; the name of an only output is left out.
        row_format: Whether to write `predictions`, one for every instance, or
            `outputs`, tensor by tensor. The format of the request.

    Returns:
        The JSON text.

    Raises:
        tf.errors.InvalidArgumentError: The outputs cannot be written in rows.

    Example:
    ```python
    to_json({"score": np.array([0.5])}, row_format=True)  # '{"predictions": [0.5]}'
    ```
    """
    if row_format:
        return f'{{"predictions": {_list(_rows(outputs))}}}'
    return f'{{"outputs": {_value_or_object(_whole(outputs))}}}'


def _columns_of_rows(rows: Any, signature: SignatureDef) -> dict[str, list[Any]]:
    if not isinstance(rows, list) or not rows:
        raise status_errors.invalid(
            f"'instances': expected a list of at least one, received {_kind(rows)}"
        )
    if not any(_is_object(row) for row in rows):
        return {_only_input("instances", signature): rows}
    expected = set(signature.inputs)
    for number, row in enumerate(rows):
        if not _is_object(row) or row.keys() != expected:
            raise status_errors.invalid(
                f"instance {number}: expected an object with the keys "
                f"{sorted(expected)}, as other instances are objects, "
                f"received {_keys(row) if _is_object(row) else _kind(row)}"
            )
    return {name: [row[name] for row in rows] for name in signature.inputs}


def _keys(row: Mapping[str, Any]) -> object:
    return sorted(row) if len(row) <= MOST_NAMES else f"{len(row)} keys"


def _columns(inputs: Any, signature: SignatureDef) -> dict[str, Any]:
    if _is_object(inputs):
        return inputs
    return {_only_input("inputs", signature): inputs}


def _only_input(key: str, signature: SignatureDef) -> str:
    if len(signature.inputs) != 1:
        raise status_errors.invalid(
            f"'{key}': expected values by name, as the signature has the inputs "
            f"{sorted(signature.inputs)}"
        )
    [name] = signature.inputs
    return str(name)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and value.keys() == {BASE64}


def _to_proto(name: str, values: Any, dtype: tf.DType) -> tensor_pb2.TensorProto:
    shape = _shape(values)
    elements = _flat(name, values, shape)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == tf.string:
        proto.string_val.extend(_to_bytes(name, element) for element in elements)
    else:
        proto.tensor_content = _to_array(name, elements, dtype).tobytes()
    return proto


def _shape(values: Any) -> list[int]:
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return shape


def _flat(name: str, values: Any, shape: list[int]) -> list[Any]:
    # Level by level: a client may send lists that are too deep for recursion.
    level = [values]
    for size in shape:
        if any(not isinstance(it, list) or len(it) != size for it in level):
            raise _ragged(name)
        level = list(itertools.chain.from_iterable(level))
    if any(isinstance(it, list) for it in level):
        raise _ragged(name)
    return level


def _ragged(name: str) -> tf.errors.InvalidArgumentError:
    return status_errors.invalid(f'input "{name}": the lists differ in size or depth')


def _to_bytes(name: str, value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if _is_base64(value) and isinstance(value[BASE64], str):
            # TF Serving accepts base64 without its padding.
            text = value[BASE64] + "=" * (-len(value[BASE64]) % 4)
            return base64.b64decode(text, validate=True)
    except UnicodeEncodeError as error:
        raise status_errors.invalid(f'input "{name}": half a surrogate pair') from error
    except ValueError as error:
        raise status_errors.invalid(f'input "{name}": not base64: {error}') from error
    raise status_errors.invalid(
        f'input "{name}": expected a string or {{"{BASE64}": string}}, '
        f"received {_kind(value)}"
    )


def _to_array(name: str, elements: list[Any], dtype: tf.DType) -> np.ndarray:
    kinds = NUMBERS.get(np.dtype(dtype.as_numpy_dtype).kind)
    if kinds is None:
        raise status_errors.unimplemented(f'input "{name}": {dtype.name} in JSON')
    for element in elements:
        # Not isinstance: to Python, true is an integer.
        if type(element) not in kinds:
            raise status_errors.invalid(
                f'input "{name}": expected {dtype.name}, received {_kind(element)}'
            )
    try:
        return np.array(elements, dtype.as_numpy_dtype)
    except OverflowError as error:
        raise status_errors.invalid(
            f'input "{name}": a number is out of the range of {dtype.name}'
        ) from error


def _kind(value: Any) -> str:
    """Returns the name of a value's type in JSON."""
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return "a string"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "a number"


def _rows(outputs: Mapping[str, np.ndarray]) -> Iterable[str]:
    sizes = {array.shape[:1] for array in outputs.values()}
    if len(sizes) != 1 or () in sizes:
        raise status_errors.invalid(
            "the outputs have no common first dimension; send 'inputs' instead"
        )
    columns = {name: _elements(_array(name, it)) for name, it in outputs.items()}
    for row in zip(*columns.values(), strict=True):
        yield _value_or_object(dict(zip(columns, row, strict=True)))


def _whole(outputs: Mapping[str, np.ndarray]) -> dict[str, str]:
    arrays = {name: _array(name, array) for name, array in outputs.items()}
    return {
        name: _list(_elements(array)) if array.ndim else _scalars(array.reshape(1))[0]
        for name, array in arrays.items()
    }


def _value_or_object(texts: Mapping[str, str]) -> str:
    if len(texts) == 1:
        return next(iter(texts.values()))
    members = (f"{json.dumps(name)}: {text}" for name, text in texts.items())
    return "{" + ", ".join(members) + "}"


def _array(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == tf.bfloat16.as_numpy_dtype:
        return array.astype(np.float32)
    if array.dtype != object:
        return array
    in_base64 = name.endswith(BYTES_SUFFIX)
    to_json_value = np.frompyfunc(_as_base64 if in_base64 else _as_text, 1, 1)
    return np.asarray(to_json_value(array), object)


def _as_base64(value: bytes) -> dict[str, str]:
    return {BASE64: base64.b64encode(value).decode()}


def _as_text(value: bytes) -> str:
    return value.decode(errors="replace")


def _elements(array: np.ndarray) -> Iterable[str]:
    """Writes the elements along the first dimension, one after the other.

    Not one call for all: while C code works, the event loop waits for the GIL.
    """
    if array.ndim > 1:
        return (_list(_elements(element)) for element in array)
    return _scalars(array)


def _scalars(vector: np.ndarray) -> list[str]:
    if vector.dtype.kind != "f":
        return [json.dumps(value) for value in vector.tolist()]
    # NumPy writes the fewest digits that give the same float32 back; as Python
    # floats they would be written with the digits of a float64.
    texts: list[str] = vector.astype(str).tolist()
    if np.isfinite(vector).all():
        return texts
    return [NOT_FINITE.get(text, text) for text in texts]


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(texts) + "]"
