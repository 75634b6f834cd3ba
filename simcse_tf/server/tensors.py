"""Between the protocol's `TensorProto` and NumPy's arrays."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from simcse_tf.server import status_errors

# A proto may give one value for many elements. Without a bound, a request of a
# few bytes that declares a huge shape would take all of the server's memory.
MOST_REPEATED = 2**16

# The field of `TensorProto` with the values of a dtype of which there are few.
VALUE_FIELDS = {"int32": "int_val", "bool": "bool_val"}
# Fields of `TensorProto` and `TensorShapeProto` in wire format.
DTYPE_FLOAT = bytes([1 << 3, types_pb2.DT_FLOAT])
SHAPE_TAG = b"\x12"  # field 2, length-delimited
DIM_TAG = b"\x12"
SIZE_TAG = b"\x08"  # field 1, varint
FLOAT_VAL_TAG = b"\x2a"  # field 5, length-delimited


def from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Parses a tensor as TensorFlow's own C++ parser does.

    Args:
        proto: Values in `tensor_content` or in the dtype's `*_val` field.

    Returns:
        An array of the proto's dtype and shape; strings are bytes objects.

    Raises:
        tf.errors.InvalidArgumentError: dtype, shape and values do not agree.

    Example:
    ```python
    from_proto(tf.make_tensor_proto(["Yes."]))  # array([b"Yes."], dtype=object)
    ```
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if _is_plain_strings(proto, shape):
        array = np.empty(shape[0], object)
        array[:] = proto.string_val
        return array
    elements = math.prod(shape)
    if elements > max(MOST_REPEATED, proto.ByteSize()):
        raise status_errors.invalid(
            f"{elements} elements declared in {proto.ByteSize()} bytes"
        )
    return to_array(
        tf.io.parse_tensor(proto.SerializeToString(), tf.DType(proto.dtype))
    )


def to_array(tensor: tf.Tensor) -> np.ndarray:
    """Copies the values of a tensor into an array.

    Args:
        tensor: Any shape and dtype.

    Returns:
        An array of the same shape; strings are bytes objects.

    Example:
    ```python
    to_array(tf.constant(["Yes."]))  # array([b"Yes."], dtype=object)
    ```
    """
    values = tensor.numpy()
    if tensor.dtype == tf.string:
        return np.asarray(values, object)
    return np.asarray(values)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Packs an array for a response.

    Args:
        array: Any shape and dtype.

    Returns:
        The proto. Its values are where TF Serving puts them, since clients without
        TensorFlow look there: those of float32 in `float_val`, int32 in `int_val`,
        bool in `bool_val`. Other numbers are in `tensor_content`.

    Example:
    ```python
    to_proto(np.zeros((1, 2), np.float32)).float_val  # [0.0, 0.0]
    ```
    """
    if field := VALUE_FIELDS.get(array.dtype.name):
        return tensor_pb2.TensorProto(
            dtype=tf.as_dtype(array.dtype).as_datatype_enum,
            tensor_shape=tf.TensorShape(array.shape).as_proto(),
            **{field: array.ravel().tolist()},
        )
    if array.dtype != np.float32:
        return tf.make_tensor_proto(array)
    # Appending the values from Python takes a hundred times as long as handing
    # the fields over in wire format.
    dims = b"".join(_field(DIM_TAG, SIZE_TAG + _varint(size)) for size in array.shape)
    values = array.astype("<f4", copy=False).tobytes()
    return tensor_pb2.TensorProto.FromString(
        DTYPE_FLOAT + _field(SHAPE_TAG, dims) + _field(FLOAT_VAL_TAG, values)
    )


def _is_plain_strings(proto: tensor_pb2.TensorProto, shape: list[int]) -> bool:
    """Whether this is a list of strings, each of them given, as clients send it."""
    return (
        proto.dtype == types_pb2.DT_STRING
        and shape == [len(proto.string_val)]
        and not proto.tensor_content
    )


def _field(tag: bytes, contents: bytes) -> bytes:
    return tag + _varint(len(contents)) + contents


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(0x80 | number & 0x7F)
        number >>= 7
    groups.append(number)
    return bytes(groups)
