"""A transformer as plain operations: what the Keras layers compute, in less time."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

import keras_hub
import tensorflow as tf

from simcse_tf.encoders.base import Encoder, Features, Weights
from simcse_tf.encoders.dropout import Dropout, no_dropout, seeded_dropout
from simcse_tf.encoders.keras_layers import EncoderLayer, parts_of, transformer_layers
from simcse_tf.encoders.ops import layer_norm
from simcse_tf.encoders.packing import Packing, padded, unpadded
from simcse_tf.encoders.products import Products
from simcse_tf.encoders.static import Grid


class PlainEncoder(Encoder):
    """A KerasHub backbone of `TransformerEncoder` layers, without their overhead.

    A family is a subclass that says which tables make the embedding of a token.

    Dense layers run on one row a token. Query, key and value are one product. Sums of
    a layer normalization are in float32. In training the padding is left out of all
    but attention, so sentences of any lengths go together. With `first_token` the last
    layer computes keys and values of all tokens, and all else of first tokens alone.

    With `static_shapes` it computes on the padded grid, in training too, and XLA can
    compile it.

    Args:
        backbone: A `keras_hub.models.Backbone` that embeds tokens by tables, a layer
            normalization and dropout.
        layers: See `Encoder`.
        first_token: See `Encoder`.
        static_shapes: See `Encoder`.

    Example:

    ```python
    encoder = BertEncoder(backbone, layers=(-1,))
    [hidden_states] = encoder.hidden_states(encoder.weights(), features)
    ```
    """

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        layers: Sequence[int],
        first_token: bool = False,
        static_shapes: bool = False,
    ):
        count = len(transformer_layers(backbone))
        self._wanted = [layer % count for layer in layers]
        read = transformer_layers(backbone)[: max(self._wanted) + 1]
        self._layers = [parts_of(layer) for layer in read]
        self._backbone = backbone
        self._first_token = first_token
        self._static_shapes = static_shapes
        self._heads = backbone.num_heads
        self._dtype = tf.as_dtype(backbone.dtype_policy.compute_dtype)
        self._products = Products()

    @abstractmethod
    def embeddings(self, backbone: keras_hub.models.Backbone) -> list[Any]:
        """The backbone's embedding layers.

        Args:
            backbone: The backbone.

        Returns:
            List of layers whose first weight is a table: of the tokens, of the
            positions and, where the family has it, of the segments.
        """

    def embed_positions(self, packing: Packing, table: tf.Tensor) -> tf.Tensor:
        """The row of the table of positions that each token gets.

        Args:
            packing: The batch's tokens.
            table: Floating tensor of shape `(positions, dim)`.

        Returns:
            Floating tensor of shape `(tokens, dim)`.
        """
        return packing.of_positions(table)

    def computing_with(
        self, products: Products, all_tokens: bool = False
    ) -> "PlainEncoder":
        """The same encoder with other products, which read the weights.

        Args:
            products: The `Products`.
            all_tokens: bool. Whether it computes what `first_token` leaves out.
                Defaults to `False`.
        """
        other = copy(self)
        changes = {
            "_products": products,
            "_first_token": self._first_token and not all_tokens,
        }
        vars(other).update(changes)
        return other

    def weights(self) -> Weights:
        return {
            # A ReversibleEmbedding may hold a second, untied table after its first.
            "embeddings": [
                tf.convert_to_tensor(each.weights[0])
                for each in self.embeddings(self._backbone)
            ],
            "norm": _norm_weights(self._backbone.embeddings_layer_norm),
            "layers": [self._layer_weights(layer) for layer in self._layers],
        }

    def hidden_states(
        self, weights: Weights, features: Features, seed: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        if seed is None:
            few_sizes = self._products.few_sizes or self._dtype != tf.float32
            dynamic = partial(padded, few_sizes=few_sizes)
            return self._run(weights, self._packing(features, dynamic), no_dropout)
        # One seed for the embeddings, and three for each layer: attention, its output
        # and the feed-forward layer.
        seeds = tf.unstack(tf.random.split(seed, 1 + 3 * len(self._layers)))
        packing = self._packing(features, unpadded)
        return self._run(weights, packing, seeded_dropout(iter(seeds)))

    def _packing(
        self, features: Features, dynamic: Callable[[Features, int], Packing]
    ) -> Packing:
        return (Grid if self._static_shapes else dynamic)(features, self._heads)

    def _run(
        self, weights: Weights, packing: Packing, dropout: Dropout
    ) -> list[tf.Tensor]:
        hidden_states = self._embed_tokens(weights, packing, dropout)
        bias = tf.cast(packing.mask[:, None, None, :] == 0, self._dtype)
        bias *= self._dtype.min
        outputs = []
        for index, layer in enumerate(self._layers):
            last = index == len(self._layers) - 1
            hidden_states = self._layer(
                hidden_states,
                layer,
                weights["layers"][index],
                packing,
                bias,
                dropout,
                first_token=self._first_token and last,
            )
            outputs.append(hidden_states)
        *others, last_wanted = (outputs[index] for index in self._wanted)
        grids = [packing.pad(each) for each in others]
        grids.append(
            last_wanted[:, None] if self._first_token else packing.pad(last_wanted)
        )
        return [grid[: packing.sentences] for grid in grids]

    def _embed_tokens(
        self, weights: Weights, packing: Packing, dropout: Dropout
    ) -> tf.Tensor:
        token, position, *segment = weights["embeddings"]
        embedded = self._products.rows(token, packing.token_ids)
        if segment:
            embedded += segment[0][0]
        embedded += self.embed_positions(packing, position)
        norm = self._backbone.embeddings_layer_norm
        embedded = layer_norm(
            tf.cast(embedded, self._dtype), weights["norm"], norm.epsilon, self._dtype
        )
        return dropout(embedded, self._backbone.embeddings_dropout.rate)

    def _layer(
        self,
        inputs: tf.Tensor,
        layer: EncoderLayer,
        weights: Weights,
        packing: Packing,
        bias: tf.Tensor,
        dropout: Dropout,
        first_token: bool,
    ) -> tf.Tensor:
        """A layer's hidden states, of all tokens or of the first ones alone."""
        width = inputs.shape[1]
        size = width // self._heads
        products, projection = self._products, weights["query_key_value"]
        if first_token:
            key_value = products.dense(inputs, products.columns(projection, width))
            key, value = packing.split_heads(key_value, 2)
            inputs = packing.first_tokens(inputs)
            query = products.dense(inputs, products.columns(projection, 0, width))
            query = tf.reshape(query, [-1, self._heads, 1, size])
        else:
            projected = products.dense(inputs, projection)
            query, key, value = packing.split_heads(projected, 3)
        scores = tf.matmul(query * size**-0.5, key, transpose_b=True) + bias
        attention = dropout(tf.nn.softmax(scores), layer.attention.dropout)
        mixed = tf.matmul(attention, value)
        mixed = (
            tf.reshape(mixed, [-1, width])
            if first_token
            else packing.merge_heads(mixed)
        )
        attended = products.added(
            mixed,
            weights["attention_output"],
            inputs,
            lambda each: dropout(each, layer.attention_dropout.rate),
        )
        attended = layer_norm(
            attended,
            weights["attention_norm"],
            layer.attention_norm.epsilon,
            self._dtype,
        )
        inner = products.activated(
            attended,
            weights["intermediate"],
            layer.intermediate.activation,
            fused=dropout is no_dropout and not self._static_shapes,
        )
        outer = products.added(
            inner,
            weights["output"],
            attended,
            lambda each: dropout(each, layer.output_dropout.rate),
        )
        return layer_norm(
            outer, weights["output_norm"], layer.output_norm.epsilon, self._dtype
        )

    def _layer_weights(self, layer: EncoderLayer) -> Weights:
        attention = layer.attention
        width = attention.output_dense.bias.shape[0]

        def matrix(each: Any, shape: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
            kernel, bias = tf.reshape(each.kernel, shape), tf.reshape(each.bias, [-1])
            return tf.cast(kernel, self._dtype), tf.cast(bias, self._dtype)

        projections = [
            matrix(each, [width, width])
            for each in (
                attention.query_dense,
                attention.key_dense,
                attention.value_dense,
            )
        ]
        kernels, biases = zip(*projections, strict=True)
        return {
            "query_key_value": (tf.concat(kernels, axis=1), tf.concat(biases, axis=0)),
            "attention_output": matrix(attention.output_dense, [width, width]),
            "attention_norm": _norm_weights(layer.attention_norm),
            "intermediate": matrix(layer.intermediate, [width, -1]),
            "output": matrix(layer.output, [-1, width]),
            "output_norm": _norm_weights(layer.output_norm),
        }


def _norm_weights(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(layer.gamma, tf.float32), tf.cast(layer.beta, tf.float32)
