"""BERT's encoder as plain operations: what the Keras layers compute, in less time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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
            `simcse_tf.encoders.pooling.layers_read` names them.
        first_token: bool. Whether of the last of them only each sentence's first token
            is wanted: of the others that layer then computes keys and values alone.
            Defaults to `False`.
    """

    def __init__(
        self,
        backbone: keras_hub.models.BertBackbone,
        layers: Sequence[int],
        first_token: bool = False,
    ):
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
        self._first_token = first_token
        self._heads = self._encoders[0]._self_attention_layer._num_heads
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
            The outputs of the layers wanted, `(n, length, dim)` in the compute dtype;
            the last one's `(n, 1, dim)` if of the first token only.
        """
        return self._run(
            weights, _padded(inputs, self._heads), lambda tensor, layer: tensor
        )

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
        return self._run(weights, _packed(inputs, self._heads), _dropout(seeds))

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
            first = self._first_token and layer is self._encoders[-1]
            states = self._layer(states, layer, own, batch, hidden, dropout, first)
            outputs.append(states)
        grids = [batch.to_grid(outputs[index]) for index in self._wanted[:-1]]
        last = outputs[self._wanted[-1]]
        last = last[:, None] if self._first_token else batch.to_grid(last)
        return [grid[: batch.sentences] for grid in [*grids, last]]

    def _layer(
        self,
        states: tf.Tensor,
        layer: Any,
        own: Weights,
        batch: "_Batch",
        hidden: tf.Tensor,
        dropout: Callable[[tf.Tensor, keras.layers.Dropout], tf.Tensor],
        first: bool,
    ) -> tf.Tensor:
        """An encoder layer's outputs, of all tokens or of the first ones alone."""
        width = states.shape[1]
        kernel, bias = own["query_key_value"]
        if first:
            others = _dense(states, (kernel[:, width:], bias[width:]))
            key, value = batch.to_heads(others, 2)
            states = tf.gather(states, batch.slots[:, 0])
            query = _dense(states, (kernel[:, :width], bias[:width]))
            query = tf.reshape(query, [-1, self._heads, 1, width // self._heads])
        else:
            query, key, value = batch.to_heads(_dense(states, (kernel, bias)), 3)
        attention = layer._self_attention_layer
        query *= (width // self._heads) ** -0.5
        scores = tf.matmul(query, key, transpose_b=True) + hidden
        weights = dropout(tf.nn.softmax(scores), attention._dropout_layer)
        mixed = tf.matmul(weights, value)
        mixed = tf.reshape(mixed, [-1, width]) if first else batch.from_heads(mixed)
        attended = dropout(
            _dense(mixed, own["attention_output"]), layer._self_attention_dropout
        )
        states = self._normalize(
            attended + states, own["attention_norm"], layer._self_attention_layer_norm
        )
        activate = layer._feedforward_intermediate_dense.activation
        inner = _activated(_dense(states, own["intermediate"]), activate)
        fed = dropout(_dense(inner, own["output"]), layer._feedforward_dropout)
        return self._normalize(fed + states, own["norm"], layer._feedforward_layer_norm)

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


class _Batch:
    """A batch as rows of tokens, and how to go to sentences and back.

    Attributes:
        token_ids: `(tokens,)`.
        positions: `(tokens,)`, in their sentences.
        mask: `(rows, length)`, 1 for a token and 0 for padding.
        slots: `(rows, length)`. Which token stands in a cell of the grid.
        sentences: The first so many rows are the batch's.

    Args:
        places: `(tokens,)`. In which cell a token stands.
        heads: int. Of the attention; the other arguments are the attributes.
    """

    def __init__(
        self,
        token_ids: tf.Tensor,
        mask: tf.Tensor,
        slots: tf.Tensor,
        places: tf.Tensor,
        sentences: tf.Tensor,
        heads: int,
    ):
        self.token_ids, self.mask, self.sentences = token_ids, mask, sentences
        self.slots, self._places, self._heads = slots, places, heads
        self._rows, self._length = tf.unstack(tf.shape(slots))
        self.positions = places % self._length
        # Of a cell's head in the grid, `(rows, heads, length)`, and of a token's.
        head = tf.range(heads)
        row = places // self._length
        self._in_grid = (row[:, None] * heads + head) * self._length
        self._in_grid += self.positions[:, None]
        self._in_tokens = slots[:, None, :] * heads + head[:, None]
        self._of_parts: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}

    def to_grid(self, states: tf.Tensor) -> tf.Tensor:
        """From `(tokens, dim)` to `(rows, length, dim)`."""
        return _lookup(states, self.slots, self._places)

    def to_heads(self, states: tf.Tensor, parts: int) -> list[tf.Tensor]:
        """From `(tokens, parts * dim)` to `(rows, heads, length, size)` each."""
        size = states.shape[1] // (parts * self._heads)
        # The same for every layer.
        if parts not in self._of_parts:
            self._of_parts[parts] = self._part_indices(parts)
        there, back = self._of_parts[parts]
        return tf.unstack(_lookup(tf.reshape(states, [-1, size]), there, back))

    def _part_indices(self, parts: int) -> tuple[tf.Tensor, tf.Tensor]:
        part = tf.range(parts)
        token, head = self.slots[:, None, :] * parts, tf.range(self._heads)[:, None]
        there = (token + part[:, None, None, None]) * self._heads + head
        cells = self._rows * self._heads * self._length
        return there, self._in_grid[:, None, :] + part[:, None] * cells

    def from_heads(self, mixed: tf.Tensor) -> tf.Tensor:
        """From `(rows, heads, length, size)` to `(tokens, dim)`."""
        size = mixed.shape[3]
        rows = tf.reshape(mixed, [-1, size])
        tokens = _lookup(rows, self._in_grid, self._in_tokens)
        return tf.reshape(tokens, [-1, self._heads * size])


def _padded(inputs: Mapping[str, Any], heads: int) -> _Batch:
    """Padding counts as tokens."""
    shape = tf.shape(inputs["token_ids"])
    places = tf.range(shape[0] * shape[1])
    return _Batch(
        tf.reshape(inputs["token_ids"], [-1]),
        inputs["padding_mask"],
        tf.reshape(places, shape),
        places,
        shape[0],
        heads,
    )


def _packed(inputs: Mapping[str, Any], heads: int) -> _Batch:
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
    return _Batch(
        tf.pad(token_ids, [[0, fill]]),
        mask,
        tf.reshape(slots, [rows + 1, length]),
        tf.concat([places, tf.fill([fill], cells)], axis=0),
        rows,
        heads,
    )


def _lookup(rows: tf.Tensor, there: tf.Tensor, back: tf.Tensor) -> tf.Tensor:
    """Rows of a matrix in another arrangement, whose gradient is a lookup too."""

    @tf.custom_gradient
    def look_up(rows: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            width = rows.shape[1]
            found = tf.gather(tf.reshape(upstream, [-1, width]), back)
            return tf.reshape(found, [-1, width])

        return tf.gather(rows, there), gradient

    return look_up(rows)


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
