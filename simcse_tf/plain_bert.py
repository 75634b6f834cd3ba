"""BERT's encoder as plain operations: what the Keras layers compute, in less time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import keras_hub
import tensorflow as tf

# Tensors by name, nested: they change with every training step, the graph does not.
Weights = dict[str, Any]

# Packed batches have a multiple of so many tokens: a kernel is prepared anew for every
# size that it meets.
_TOKENS_MULTIPLE = 64
# Of the numbers that decide on dropout.
_UINT16_RANGE = 1 << 16


class PlainBert:
    """A KerasHub BERT backbone without its layers' overhead.

    Dense layers run on one row a token and never on `(n, length)` grids; query, key and
    value are one product; every reduction of a layer normalization is in float32.

    Args:
        backbone: A `keras_hub.models.BertBackbone`.
        layers: ints. The encoder layers whose outputs are wanted, as
            `simcse_tf.pooling.layers_read` names them.
    """

    def __init__(self, backbone: keras_hub.models.BertBackbone, layers: Sequence[int]):
        self._embedding_norm = backbone.get_layer("embeddings_layer_norm")
        self._embedding_dropout = backbone.get_layer("embeddings_dropout")
        self._embeddings = [
            backbone.get_layer(f"{name}_embedding")
            for name in ("token", "position", "segment")
        ]
        self._encoders = [
            layer
            for layer in backbone.layers
            if isinstance(layer, keras_hub.layers.TransformerEncoder)
        ]
        self._wanted = [range(len(self._encoders))[index] for index in layers]
        self._encoders = self._encoders[: max(self._wanted) + 1]
        self._dtype = tf.as_dtype(backbone.dtype_policy.compute_dtype)

    @staticmethod
    def supports(backbone: Any) -> bool:
        return type(backbone) is keras_hub.models.BertBackbone

    def weights(self) -> Weights:
        """The backbone's weights as they are now, matrices in the compute dtype."""
        return {
            "embeddings": [
                tf.convert_to_tensor(layer.weights[0]) for layer in self._embeddings
            ],
            "norm": _norm(self._embedding_norm),
            "layers": [self._layer_weights(layer) for layer in self._encoders],
        }

    def states(self, weights: Weights, inputs: Mapping[str, Any]) -> list[tf.Tensor]:
        """Runs the encoder without dropout, on padded sentences of similar length.

        Args:
            weights: What `weights` returns.
            inputs: The backbone's inputs, int tensors of shape `(n, length)`; all
                tokens are of segment 0.

        Returns:
            The outputs of the layers wanted, `(n, length, dim)` in the compute dtype.
        """
        return self._run(weights, _padded(inputs), lambda tensor, layer: tensor)

    def training_states(
        self, weights: Weights, inputs: Mapping[str, Any], seed: tf.Tensor
    ) -> list[tf.Tensor]:
        """Runs the encoder with dropout, in the time that the tokens cost.

        Padding reaches attention alone, so that sentences of any lengths go together.

        Args:
            weights: What `weights` returns.
            inputs: As for `states`.
            seed: int32 tensor of shape `(2,)`, from which all masks follow.

        Returns:
            As `states`.
        """
        # Of the embeddings, and of attention, its output and the feed-forward layer.
        seeds = iter(tf.unstack(tf.random.split(seed, 1 + 3 * len(self._encoders))))
        return self._run(weights, _packed(inputs), _dropout(seeds))

    def _run(
        self,
        weights: Weights,
        batch: "_Batch",
        dropout: Callable[[tf.Tensor, keras.layers.Dropout], tf.Tensor],
    ) -> list[tf.Tensor]:
        token, position, segment = weights["embeddings"]
        states = tf.gather(token, batch.token_ids) + segment[0]
        states = tf.cast(states + tf.gather(position, batch.positions), self._dtype)
        states = self._normalize(states, weights["norm"], self._embedding_norm)
        states = dropout(states, self._embedding_dropout)
        hidden = tf.cast(batch.mask[:, None, None, :] == 0, self._dtype)
        hidden *= self._dtype.min
        outputs = []
        for layer, own in zip(self._encoders, weights["layers"], strict=True):
            attention = layer._self_attention_layer
            mixed = self._mix(states, own, attention, batch, hidden, dropout)
            attended = dropout(
                _dense(mixed, own["attention_output"]), layer._self_attention_dropout
            )
            states = self._normalize(
                attended + states,
                own["attention_norm"],
                layer._self_attention_layer_norm,
            )
            activate = layer._feedforward_intermediate_dense.activation
            inner = _activated(_dense(states, own["intermediate"]), activate)
            fed = dropout(_dense(inner, own["output"]), layer._feedforward_dropout)
            states = self._normalize(
                fed + states, own["norm"], layer._feedforward_layer_norm
            )
            outputs.append(states)
        return [batch.sentences(outputs[index]) for index in self._wanted]

    def _mix(
        self,
        states: tf.Tensor,
        own: Weights,
        attention: Any,
        batch: "_Batch",
        hidden: tf.Tensor,
        dropout: Callable[[tf.Tensor, keras.layers.Dropout], tf.Tensor],
    ) -> tf.Tensor:
        """Every token's mixture of values, its heads side by side."""
        heads = attention._num_heads
        size = states.shape[1] // heads
        grid = batch.to_grid(_dense(states, own["query_key_value"]))
        rows, length, _ = tf.unstack(tf.shape(grid))
        grid = tf.reshape(grid, [rows, length, 3, heads, size])
        query, key, value = tf.unstack(tf.transpose(grid, [2, 0, 3, 1, 4]))
        scores = tf.matmul(query * size**-0.5, key, transpose_b=True)
        weights = dropout(tf.nn.softmax(scores + hidden), attention._dropout_layer)
        mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return batch.from_grid(tf.reshape(mixed, [rows, length, heads * size]))

    def _normalize(
        self, states: tf.Tensor, own: tuple[tf.Tensor, tf.Tensor], layer: Any
    ) -> tf.Tensor:
        gamma, beta = own
        states = _standardize(tf.cast(states, tf.float32), layer.epsilon)
        return tf.cast(tf.nn.bias_add(states * gamma, beta), self._dtype)

    def _layer_weights(self, layer: Any) -> Weights:
        attention = layer._self_attention_layer
        width = attention._output_dense.bias.shape[0]

        def dense(each: Any, shape: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
            kernel, bias = tf.reshape(each.kernel, shape), tf.reshape(each.bias, [-1])
            return tf.cast(kernel, self._dtype), tf.cast(bias, self._dtype)

        projections = [
            dense(each, [width, width])
            for each in (
                attention._query_dense,
                attention._key_dense,
                attention._value_dense,
            )
        ]
        kernels, biases = zip(*projections, strict=True)
        return {
            "query_key_value": (tf.concat(kernels, axis=1), tf.concat(biases, axis=0)),
            "attention_output": dense(attention._output_dense, [width, width]),
            "intermediate": dense(layer._feedforward_intermediate_dense, [width, -1]),
            "output": dense(layer._feedforward_output_dense, [-1, width]),
            "attention_norm": _norm(layer._self_attention_layer_norm),
            "norm": _norm(layer._feedforward_layer_norm),
        }


class _Batch(NamedTuple):
    """A batch as rows of tokens, and how to go to sentences and back.

    Attributes:
        token_ids: `(tokens,)`.
        positions: `(tokens,)`, in their sentences.
        mask: `(rows, length)`, 1 for a token and 0 for padding.
        to_grid: From `(tokens, dim)` to `(rows, length, dim)`.
        from_grid: The way back.
        sentences: As `to_grid`, without rows that are not of the batch.
    """

    token_ids: tf.Tensor
    positions: tf.Tensor
    mask: tf.Tensor
    to_grid: Callable[[tf.Tensor], tf.Tensor]
    from_grid: Callable[[tf.Tensor], tf.Tensor]
    sentences: Callable[[tf.Tensor], tf.Tensor]


def _padded(inputs: Mapping[str, Any]) -> _Batch:
    """Padding counts as tokens."""
    rows, length = tf.unstack(tf.shape(inputs["token_ids"]))

    def to_grid(states: tf.Tensor) -> tf.Tensor:
        return tf.reshape(states, [rows, length, states.shape[1]])

    return _Batch(
        tf.reshape(inputs["token_ids"], [-1]),
        tf.tile(tf.range(length), [rows]),
        inputs["padding_mask"],
        to_grid,
        lambda grid: tf.reshape(grid, [-1, grid.shape[2]]),
        to_grid,
    )


def _packed(inputs: Mapping[str, Any]) -> _Batch:
    """Tokens only, filled up to a multiple by those of one more sentence.

    No sentence's loss depends on that one. All padding in the grid is a copy of its
    token, so that the gradient of padding is zero, and both ways between tokens and
    grid are lookups whose gradient is the way back.
    """
    rows, length = tf.unstack(tf.shape(inputs["token_ids"]))
    cells = rows * length
    places = tf.where(tf.reshape(inputs["padding_mask"], [-1]) > 0)[:, 0]
    places = tf.cast(places, tf.int32)
    count = tf.size(places)
    fill = _TOKENS_MULTIPLE - count % _TOKENS_MULTIPLE
    token_ids = tf.gather(tf.reshape(inputs["token_ids"], [-1]), places)
    slots = tf.tensor_scatter_nd_update(
        tf.fill([cells + length], count), places[:, None], tf.range(count)
    )
    mask = tf.pad(inputs["padding_mask"], [[0, 1], [0, 0]])
    # It sees itself: a softmax over nothing is not a number.
    last = tf.one_hot(rows, rows + 1, dtype=mask.dtype)[:, None]
    mask = tf.maximum(mask, last * tf.one_hot(0, length, dtype=mask.dtype))
    places = tf.concat([places, tf.fill([fill], cells)], axis=0)
    to_cells, from_cells = _lookups(slots, places)

    def to_grid(states: tf.Tensor) -> tf.Tensor:
        return tf.reshape(to_cells(states), [rows + 1, length, states.shape[1]])

    return _Batch(
        tf.pad(token_ids, [[0, fill]]),
        tf.where(places < cells, places % length, 0),
        mask,
        to_grid,
        lambda grid: from_cells(tf.reshape(grid, [-1, grid.shape[2]])),
        lambda states: to_grid(states)[:rows],
    )


def _lookups(
    slots: tf.Tensor, places: tf.Tensor
) -> tuple[Callable[[tf.Tensor], tf.Tensor], Callable[[tf.Tensor], tf.Tensor]]:
    """Lookups that are each other's gradients."""

    @tf.custom_gradient
    def to_cells(states: tf.Tensor) -> Any:
        return tf.gather(states, slots), lambda upstream: tf.gather(upstream, places)

    @tf.custom_gradient
    def from_cells(cells: tf.Tensor) -> Any:
        return tf.gather(cells, places), lambda upstream: tf.gather(upstream, slots)

    return to_cells, from_cells


def _dropout(
    seeds: Iterator[tf.Tensor],
) -> Callable[[tf.Tensor, keras.layers.Dropout], tf.Tensor]:
    """Dropout at a layer's rate; every use takes the next seed.

    16 random bits a number: the rate is right to 1/65536.
    """

    def drop(tensor: tf.Tensor, layer: keras.layers.Dropout) -> tf.Tensor:
        seed = next(seeds)
        dropped = round(layer.rate * _UINT16_RANGE)
        if not dropped:
            return tensor
        shape = tf.shape(tensor)
        count = tf.reduce_prod(shape)
        words = tf.random.stateless_uniform(
            [(count + 1) // 2], seed, None, None, tf.uint32
        )
        bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
        kept = tf.cast(tf.reshape(bits, shape) >= dropped, tensor.dtype)
        return tensor * (kept * (_UINT16_RANGE / (_UINT16_RANGE - dropped)))

    return drop


@tf.custom_gradient
def _standardize(states: tf.Tensor, epsilon: float) -> Any:
    """Rows of mean 0 and variance 1; the gradient in fewer passes than TensorFlow's."""
    centred = states - tf.reduce_mean(states, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    scale = tf.math.rsqrt(variance + epsilon)
    standard = centred * scale

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        mean = tf.reduce_mean(upstream, axis=-1, keepdims=True)
        along = tf.reduce_mean(upstream * standard, axis=-1, keepdims=True)
        return (upstream - mean - standard * along) * scale, None

    return standard, gradient


def _activated(states: tf.Tensor, activation: Callable) -> tf.Tensor:
    exact = activation is keras.activations.gelu
    return _gelu(states) if exact else activation(states)


@tf.custom_gradient
def _gelu(states: tf.Tensor) -> Any:
    """Exact GELU. In float32: half precision has no fast error function."""
    wide = tf.cast(states, tf.float32)
    below = 0.5 + 0.5 * tf.math.erf(wide * math.sqrt(0.5))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-0.5 * tf.square(wide)) * (1 / math.sqrt(2 * math.pi))
        slope = tf.cast(below + wide * density, states.dtype)
        return upstream * slope

    return tf.cast(wide * below, states.dtype), gradient


def _norm(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(layer.gamma, tf.float32), tf.cast(layer.beta, tf.float32)


def _dense(inputs: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    kernel, bias = weights
    if inputs.dtype == tf.float16:
        # As a batch of one it is not fused with the bias: fused, TensorFlow's product
        # in float16 takes a thousand times as long on a CPU.
        return tf.nn.bias_add(tf.matmul(inputs[None], kernel[None])[0], bias)
    return tf.nn.bias_add(tf.matmul(inputs, kernel), bias)
