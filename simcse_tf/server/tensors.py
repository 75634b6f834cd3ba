"""Between the protocol's `TensorProto` and TensorFlow's tensors."""

import math

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from simcse_tf.server import rejections

# A proto may give one value for many elements. Without a bound, a request of a
# few bytes that declares a huge shape would take all of the server's memory.
MOST_REPEATED = 2**20

FLOAT_VAL_TAG = b"\x2a"  # field 5, length-delimited


def from_proto(proto: tensor_pb2.TensorProto) -> tf.Tensor:
    """Parses a tensor as TensorFlow's own C++ parser does.

    Args:
        proto: Values in `tensor_content` or in the dtype's `*_val` field.

    Returns:
        The tensor, of the proto's dtype and shape.

    Raises:
        tf.errors.InvalidArgumentError: dtype, shape and values do not agree.
    """
    elements = math.prod(dim.size for dim in proto.tensor_shape.dim)
    if elements > max(MOST_REPEATED, proto.ByteSize()):
        raise rejections.invalid(
            f"{elements} elements declared in {proto.ByteSize()} bytes"
        )
    return tf.io.parse_tensor(proto.SerializeToString(), tf.DType(proto.dtype))


def to_proto(tensor: tf.Tensor) -> tensor_pb2.TensorProto:
    """Packs a tensor for a response.

    Args:
        tensor: Any shape and dtype.

    Returns:
        The proto. Like TF Serving's, float32 values are in `float_val`, which
        is where clients that do not use TensorFlow look.
    """
    if tensor.dtype != tf.float32:
        return tensor_pb2.TensorProto.FromString(tf.io.serialize_tensor(tensor).numpy())
    proto = tensor_pb2.TensorProto(
        dtype=tf.float32.as_datatype_enum, tensor_shape=tensor.shape.as_proto()
    )
    # Appending the values from Python takes a hundred times as long as handing
    # the field over in wire format.
    values = tensor.numpy().astype("<f4", copy=False).tobytes()
    proto.MergeFromString(FLOAT_VAL_TAG + _varint(len(values)) + values)
    return proto


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(0x80 | number & 0x7F)
        number >>= 7
    groups.append(number)
    return bytes(groups)
