"""Matrix products in int8: a byte a weight, and a processor's fastest products.

Weights have a scale for each output. Inputs have fixed ranges, measured once on a few
texts: with ranges of the batch, a text's embedding would depend on its neighbours.
Attention, layer normalizations, residuals and sums stay in float32.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_library

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.base import Encoder, Features, Weights
from simcse_tf.encoders.products import Products
from simcse_tf.encoders.transformer import PlainEncoder

# oneDNN's product for quantized matrices, which a stock TensorFlow has on x86.
_PRODUCT = "_QuantizedMatMul"
# Weights have seven bits. Without VNNI a processor adds two products of bytes in 16
# bits, and with eight bits the sum overflows in silence: 2 * 255 * 64 does not.
_WEIGHT_LIMIT = 63
_INPUT_LIMIT = 127
_INNER_LIMIT = 255
# How much of an input channel's range moves into the weights (SmoothQuant's alpha).
_SMOOTHING = 0.5


class Int8Table(NamedTuple):
    """A table of rows in int8; `rows * scales` is about the table."""

    rows: np.ndarray
    scales: np.ndarray


class Int8Dense(NamedTuple):
    """A dense layer in int8.

    Attributes:
        inverse: float32 `(in,)`. What inputs are multiplied by before they are rounded.
        kernel: int8 `(in, out)`.
        scale: float32 `(out,)`. What the product of integers is multiplied by.
        bias: float32 `(out,)`.
        inner: The least and the largest value after the activation, if one follows.
    """

    inverse: np.ndarray
    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    inner: tuple[float, float] | None = None


class Ranges(Products):
    """Products that note the ranges of their inputs, over several batches.

    Attributes:
        inputs: The largest magnitudes of the inputs, float32 `(in,)`, for each product
            in the order of a batch's calls.
        inner: The least and the largest activation, for each call of `activated`.
    """

    def __init__(self) -> None:
        self.inputs: list[np.ndarray] = []
        self.inner: list[tuple[float, float]] = []
        self._product = self._activation = 0

    def next_batch(self) -> "Ranges":
        """Starts with the first product again."""
        self._product = self._activation = 0
        return self

    def dense(self, inputs: tf.Tensor, weights: Any) -> tf.Tensor:
        largest = np.abs(inputs).max(axis=0)
        if self._product == len(self.inputs):
            self.inputs.append(largest)
        earlier = self.inputs[self._product]
        self.inputs[self._product] = np.maximum(earlier, largest)
        self._product += 1
        return super().dense(inputs, weights)

    def activated(
        self,
        inputs: tf.Tensor,
        weights: Any,
        activation: Callable[[Any], Any],
        fused: bool = False,
    ) -> tf.Tensor:
        activated = super().activated(inputs, weights, activation, fused)
        low, high = float(np.min(activated)), float(np.max(activated))
        if self._activation == len(self.inner):
            self.inner.append((low, high))
        earlier = self.inner[self._activation]
        self.inner[self._activation] = min(earlier[0], low), max(earlier[1], high)
        self._activation += 1
        return activated


class Int8Products(Products):
    """Products of int8 matrices, of rows that are rounded to fixed ranges.

    Example:

    ```python
    Int8Products().dense(inputs, weights)  # weights: an `Int8Dense`
    ```
    """

    few_sizes = True

    def rows(self, table: Int8Table, token_ids: tf.Tensor) -> tf.Tensor:
        found = tf.cast(tf.gather(table.rows, token_ids), tf.float32)
        return found * tf.gather(table.scales, token_ids)[:, None]

    def columns(
        self, weights: Int8Dense, start: int, stop: int | None = None
    ) -> Int8Dense:
        return weights._replace(
            kernel=weights.kernel[:, start:stop],
            scale=weights.scale[start:stop],
            bias=weights.bias[start:stop],
        )

    def dense(self, inputs: tf.Tensor, weights: Int8Dense) -> tf.Tensor:
        return _product(_rounded(inputs, weights), weights, ["BiasAdd", "Dequantize"])

    def added(
        self,
        inputs: tf.Tensor,
        weights: Int8Dense,
        residual: tf.Tensor,
        drop: Callable[[tf.Tensor], tf.Tensor],
    ) -> tf.Tensor:
        if inputs.dtype != tf.quint8:
            inputs = _rounded(inputs, weights)
        fused = ["BiasAdd", "Add", "Dequantize"]
        return _product(inputs, weights, fused, residual=residual)

    def activated(
        self,
        inputs: tf.Tensor,
        weights: Int8Dense,
        activation: Callable[[Any], Any],
        fused: bool = False,
    ) -> tf.Tensor:
        assert weights.inner is not None
        if activation is keras.activations.gelu:
            operations = ["BiasAdd", "GeluExact", "Requantize"]
            rounded = _rounded(inputs, weights)
            return _product(rounded, weights, operations, requantized=weights.inner)
        low, high = weights.inner
        steps = (activation(self.dense(inputs, weights)) - low) / _inner_step(low, high)
        steps = tf.clip_by_value(tf.round(steps), 0, _INNER_LIMIT)
        return tf.bitcast(tf.cast(steps, tf.uint8), tf.quint8)


class Int8Encoder(Encoder):
    """An encoder whose products are in int8, with the weights that it was made from.

    It has no weights to hand out: they are constants of every graph.

    Args:
        encoder: The encoder of the same backbone in float32.
        features: Batches without padding, whose ranges are measured.

    Raises:
        UserError: If the encoder's backbone or this TensorFlow cannot compute in int8.

    Example:

    ```python
    encoder = Int8Encoder(encoder_of(backbone), [features])
    [hidden_states] = encoder.hidden_states({}, features)
    ```
    """

    def __init__(self, encoder: Encoder, features: Sequence[Features]):
        if not isinstance(encoder, PlainEncoder):
            raise UserError(
                "int8: expected a model of the family of BERT, RoBERTa, XLM-RoBERTa or "
                "DistilBERT"
            )
        if not kernels.get_registered_kernels_for_op(_PRODUCT).kernel:
            raise UserError(
                "int8: this TensorFlow has no such products: expected one for x86 with "
                "oneDNN"
            )
        weights, ranges = encoder.weights(), Ranges()
        for batch in features:
            measured = encoder.computing_with(ranges.next_batch(), all_tokens=True)
            measured.hidden_states(weights, batch)
        self._weights = _int8_weights(weights, ranges)
        self._encoder = encoder.computing_with(Int8Products())
        self._eagerly = tf.function(
            self._in_graph, autograph=False, reduce_retracing=True
        )

    def weights(self) -> Weights:
        return {}

    def hidden_states(
        self, weights: Weights, features: Features, seed: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        if seed is not None:
            raise UserError("a model in int8 cannot be trained: load it in float32")
        # The product is an operation of graphs alone.
        run = self._eagerly if tf.executing_eagerly() else self._in_graph
        return run(dict(features))

    def _in_graph(self, features: Features) -> list[tf.Tensor]:
        return self._encoder.hidden_states(self._weights, features)


def _product(
    inputs: tf.Tensor,
    weights: Int8Dense,
    fused: list[str],
    residual: tf.Tensor | None = None,
    requantized: tuple[float, float] | None = None,
) -> tf.Tensor:
    """oneDNN's product of rounded rows and a kernel, with what is fused into it.

    It takes ranges and divides them by the number of steps. Those of the inputs are
    such that a step is 1.
    """
    limit = _INNER_LIMIT if inputs.dtype == tf.quint8 else _INPUT_LIMIT
    range_ = np.float32(limit)
    largest = weights.scale * np.float32(_INPUT_LIMIT)
    kernel = tf.bitcast(tf.constant(weights.kernel), tf.qint8)
    tensors = [inputs, kernel, tf.constant(weights.bias)]
    tensors += [] if residual is None else [residual]
    tensors += map(tf.constant, (-range_, range_, -largest, largest))
    outputs = [tf.float32]
    if requantized is not None:
        tensors += map(tf.constant, requantized)
        outputs = [tf.quint8, tf.float32, tf.float32]
    # No Python function wraps an operation whose name begins with "_".
    first, *_ = op_def_library.apply_op(
        _PRODUCT,
        name="int8_product",
        device_inputs=tensors,
        host_inputs=[],
        Tdevice_outputs=outputs,
        Thost_outputs=[],
        T1=inputs.dtype,
        T2=tf.qint8,
        Tbias=tf.float32,
        U=tf.float32,
        Tout=outputs[0],
        transpose_a=False,
        transpose_b=False,
        is_weight_const=True,
        is_bias_const=True,
        fused_ops=fused,
        input_quant_mode="SCALED",
        output_quant_mode="MIN_FIRST",
        leakyrelu_alpha=0.2,
    )[0]
    return first


def _rounded(inputs: tf.Tensor, weights: Int8Dense) -> tf.Tensor:
    steps = tf.round(inputs * weights.inverse)
    steps = tf.clip_by_value(steps, -_INPUT_LIMIT, _INPUT_LIMIT)
    return tf.bitcast(tf.cast(steps, tf.int8), tf.qint8)


def _int8_weights(weights: Weights, ranges: Ranges) -> Weights:
    token, *others = weights["embeddings"]
    inputs, inner = iter(ranges.inputs), iter(ranges.inner)
    names = ("query_key_value", "attention_output", "intermediate")
    layers = []
    for layer in weights["layers"]:
        int8 = {name: _int8_dense(layer[name], next(inputs)) for name in names}
        next(inputs)
        low_high = next(inner)
        int8["intermediate"] = int8["intermediate"]._replace(inner=low_high)
        int8["output"] = _after_activation(layer["output"], *low_high)
        layers.append({**_arrays(layer), **int8})
    return {
        **_arrays(weights),
        "embeddings": [_int8_table(token.numpy()), *_arrays(others)],
        "layers": layers,
    }


def _arrays(tensors: Any) -> Any:
    return tf.nest.map_structure(lambda each: each.numpy(), tensors)


def _int8_table(table: np.ndarray) -> Int8Table:
    scales = _scale(table, axis=1, limit=_INPUT_LIMIT)
    rows = np.rint(table / scales[:, None])
    return Int8Table(rows.astype(np.int8), scales)


def _int8_dense(pair: tuple[tf.Tensor, tf.Tensor], largest: np.ndarray) -> Int8Dense:
    kernel, bias = (each.numpy() for each in pair)
    # A channel with a range of its own would need a product of its own. Half of the
    # difference between the channels' ranges goes into the kernel's rows.
    floor = max(largest.max(), 1e-6) * 1e-4
    smooth = np.maximum(largest, floor) ** _SMOOTHING
    smooth /= np.maximum(np.abs(kernel).max(axis=1), 1e-6) ** (1 - _SMOOTHING)
    step = (largest / smooth).max() / _INPUT_LIMIT
    step = max(step, np.finfo(np.float32).tiny)
    int8, scale = _int8_kernel(kernel * smooth[:, None])
    inverse = (1 / (step * smooth)).astype(np.float32)
    return Int8Dense(inverse, int8, (scale * step).astype(np.float32), bias)


def _after_activation(
    pair: tuple[tf.Tensor, tf.Tensor], low: float, high: float
) -> Int8Dense:
    kernel, bias = (each.numpy() for each in pair)
    int8, scale = _int8_kernel(kernel)
    # Inputs are counted in steps from the least one.
    bias = bias + low * scale * int8.sum(axis=0, dtype=np.int64)
    inverse = np.array(1 / _inner_step(low, high), np.float32)
    scale = (scale * _inner_step(low, high)).astype(np.float32)
    return Int8Dense(inverse, int8, scale, bias.astype(np.float32))


def _inner_step(low: float, high: float) -> float:
    return max(high - low, 1e-6) / _INNER_LIMIT


def _int8_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = _scale(kernel, axis=0, limit=_WEIGHT_LIMIT)
    return np.rint(kernel / scale).astype(np.int8), scale


def _scale(matrix: np.ndarray, axis: int, limit: int) -> np.ndarray:
    """The step of each row or column; a column of zeros may have any."""
    largest = np.abs(matrix).max(axis=axis)
    return (np.where(largest > 0, largest, 1) / limit).astype(np.float32)
