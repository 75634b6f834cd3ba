"""The plain operations of an encoder, with gradients in few passes over memory."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from simcse_tf.distributed.strategy import gpus

# A vector with a smaller squared length counts as zero. Its cosine is then 0 and its
# gradient finite, as in `torch.nn.functional.cosine_similarity`.
_SMALLEST_SQUARED_NORM = 1e-16

# A kernel or scale, and the bias or shift that goes with it.
Pair = tuple[tf.Tensor, tf.Tensor]


def l2_normalize(embeddings: Any) -> Any:
    """Scales each row to Euclidean length 1, in float32.

    `simcse_tf.core.vectors.l2_normalize` does the same to NumPy arrays.

    Args:
        embeddings: Floating tensor of shape `(n, dim)`, any precision.

    Returns:
        float32 tensor of shape `(n, dim)`. A zero row stays zero.

    Example:

    ```python
    l2_normalize(tf.constant([[3.0, 4.0]]))  # [[0.6, 0.8]]
    ```
    """
    embeddings = ops.cast(embeddings, "float32")
    squared_norm = ops.sum(ops.square(embeddings), axis=-1, keepdims=True)
    return embeddings / ops.sqrt(ops.maximum(squared_norm, _SMALLEST_SQUARED_NORM))


def dense(inputs: tf.Tensor, weights: Pair) -> tf.Tensor:
    """A dense layer on rows.

    Args:
        inputs: Tensor of shape `(rows, in)`.
        weights: Kernel `(in, out)` and bias `(out,)`.

    Returns:
        Tensor of shape `(rows, out)`.

    Example:

    ```python
    dense(tf.ones([2, 3]), (tf.ones([3, 4]), tf.zeros([4])))  # all 3.0, (2, 4)
    ```
    """
    kernel, bias = weights
    add_bias = _add_bias if _sums_slowly(inputs.dtype) else tf.nn.bias_add
    if inputs.dtype == tf.float16:
        # As a batch of one it is not fused with the bias: fused, TensorFlow's product
        # in float16 takes a thousand times as long on a CPU.
        return add_bias(tf.matmul(inputs[None], kernel[None])[0], bias)
    return add_bias(tf.matmul(inputs, kernel), bias)


def layer_norm(
    inputs: tf.Tensor, weights: Pair, epsilon: float, dtype: tf.DType
) -> tf.Tensor:
    """Layer normalization. Its sums are in float32, whatever the dtypes.

    Args:
        inputs: Tensor of shape `(rows, dim)`.
        weights: Scale and shift, both float32 `(dim,)`.
        epsilon: float.
        dtype: The dtype of the result.

    Returns:
        Tensor of shape `(rows, dim)`.

    Example:

    ```python
    layer_norm(inputs, (tf.ones([8]), tf.zeros([8])), 1e-12, tf.float32)
    ```
    """
    gamma, beta = weights
    standard = _standardize(tf.cast(inputs, tf.float32), epsilon)
    return tf.cast(tf.nn.bias_add(standard * gamma, beta), dtype)


def activate(
    inputs: tf.Tensor, activation: Callable[[Any], Any], fused: bool = False
) -> tf.Tensor:
    """Applies an activation; exact GELU with a gradient of its own.

    Args:
        inputs: Tensor of shape `(rows, dim)`, the result of `dense`.
        activation: Callable.
        fused: bool. Whether to write GELU in the form that TensorFlow makes a part of
            the product before it, on CPUs and where no gradient is taken: one pass over
            memory in place of five. Defaults to `False`.

    Returns:
        Tensor of the same shape.

    Example:

    ```python
    activate(tf.constant([0.0, 1.0]), keras.activations.gelu)  # [0.0, 0.8413]
    ```
    """
    if activation is not keras.activations.gelu:
        return activation(inputs)
    # `dense` is no fused product in float16.
    if fused and inputs.dtype != tf.float16:
        return 0.5 * inputs * (1.0 + tf.math.erf(inputs * math.sqrt(0.5)))
    return _gelu(inputs)


def _sums_slowly(dtype: tf.DType) -> bool:
    """Whether TensorFlow's gradient of a bias is slow: half a step's time on a GPU.

    That is its own kernel in half precision. XLA makes another one.
    """
    graph = tf.compat.v1.get_default_graph()
    is_half = dtype in (tf.float16, tf.bfloat16)
    return is_half and bool(gpus()) and not GraphOrParentsInXlaContext(graph)


@tf.custom_gradient
def _add_bias(rows: tf.Tensor, bias: tf.Tensor) -> Any:
    """`tf.nn.bias_add` with the bias' gradient, a sum over rows, as a product."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ones = tf.ones([1, tf.shape(upstream)[0]], upstream.dtype)
        return upstream, tf.matmul(ones, upstream)[0]

    return tf.nn.bias_add(rows, bias), gradient


@tf.custom_gradient
def _standardize(inputs: tf.Tensor, epsilon: float) -> Any:
    """Rows of mean 0 and variance 1; the gradient in fewer passes than TensorFlow's."""
    centred = inputs - tf.reduce_mean(inputs, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    scale = tf.math.rsqrt(variance + epsilon)
    standard = centred * scale

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        mean = tf.reduce_mean(upstream, axis=-1, keepdims=True)
        along = tf.reduce_mean(upstream * standard, axis=-1, keepdims=True)
        return (upstream - mean - standard * along) * scale, None

    return standard, gradient


@tf.custom_gradient
def _gelu(inputs: tf.Tensor) -> Any:
    """Exact GELU, in float32 because half precision has no fast error function."""
    wide = tf.cast(inputs, tf.float32)
    below = 0.5 + 0.5 * tf.math.erf(wide * math.sqrt(0.5))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-0.5 * tf.square(wide)) * (1 / math.sqrt(2 * math.pi))
        slope = tf.cast(below + wide * density, inputs.dtype)
        return upstream * slope

    return tf.cast(wide * below, inputs.dtype), gradient
