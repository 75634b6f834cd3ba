"""BERT's encoder as plain operations: what the Keras layers compute, in less time."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras_hub
import tensorflow as tf

# Tensors by name, nested: they change with every training step, the graph does not.
Weights = dict[str, Any]


class PlainBert:
    """The inference pass of a KerasHub BERT backbone without its layers' overhead.

    Dense layers run on one row a token and never on `(n, length)` grids, attention
    needs two transposes, and nothing but the weights stands between operations. Every
    reduction of a layer normalization is in float32.

    Args:
        backbone: A `keras_hub.models.BertBackbone`.
        layers: ints. The encoder layers whose outputs are wanted, as
            `simcse_tf.pooling.layers_read` names them.
    """

    def __init__(self, backbone: keras_hub.models.BertBackbone, layers: Sequence[int]):
        self._embedding_norm = backbone.get_layer("embeddings_layer_norm")
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
        """Runs the encoder.

        Args:
            weights: What `weights` returns.
            inputs: The backbone's inputs, int tensors of shape `(n, length)`; all
                tokens are of segment 0.

        Returns:
            The outputs of the layers wanted, `(n, length, dim)` in the compute dtype.
        """
        ids, mask = inputs["token_ids"], inputs["padding_mask"]
        rows, length = tf.unstack(tf.shape(ids))
        token, position, segment = weights["embeddings"]
        states = tf.gather(token, ids) + position[:length] + segment[0]
        states = tf.reshape(states, [-1, token.shape[1]])
        states = self._normalize(states, weights["norm"], self._embedding_norm)
        hidden = tf.cast(mask[:, None, None, :] == 0, self._dtype) * self._dtype.min
        outputs = []
        for layer, own in zip(self._encoders, weights["layers"], strict=True):
            attended = self._attend(states, own, layer, rows, length, hidden)
            states = self._normalize(
                attended + states,
                own["attention_norm"],
                layer._self_attention_layer_norm,
            )
            inner = layer._feedforward_intermediate_dense.activation(
                _dense(states, own["intermediate"])
            )
            states = self._normalize(
                _dense(inner, own["output"]) + states,
                own["norm"],
                layer._feedforward_layer_norm,
            )
            outputs.append(states)
        return [
            tf.reshape(outputs[index], [rows, length, token.shape[1]])
            for index in self._wanted
        ]

    def _attend(
        self,
        states: tf.Tensor,
        own: Weights,
        layer: Any,
        rows: tf.Tensor,
        length: tf.Tensor,
        hidden: tf.Tensor,
    ) -> tf.Tensor:
        heads = layer._self_attention_layer._num_heads
        size = states.shape[1] // heads

        def by_head(name: str) -> tf.Tensor:
            grid = tf.reshape(_dense(states, own[name]), [rows, length, heads, size])
            return tf.transpose(grid, [0, 2, 1, 3])

        scores = tf.matmul(by_head("query"), by_head("key"), transpose_b=True)
        weights = tf.nn.softmax(scores * size**-0.5 + hidden)
        mixed = tf.transpose(tf.matmul(weights, by_head("value")), [0, 2, 1, 3])
        return _dense(tf.reshape(mixed, [-1, heads * size]), own["attention_output"])

    def _normalize(
        self, states: tf.Tensor, own: tuple[tf.Tensor, tf.Tensor], layer: Any
    ) -> tf.Tensor:
        gamma, beta = own
        states = tf.cast(states, tf.float32)
        centred = states - tf.reduce_mean(states, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        scaled = centred * tf.math.rsqrt(variance + layer.epsilon)
        return tf.cast(scaled * gamma + beta, self._dtype)

    def _layer_weights(self, layer: Any) -> Weights:
        attention = layer._self_attention_layer
        width = attention._output_dense.bias.shape[0]
        dense = {
            "query": attention._query_dense,
            "key": attention._key_dense,
            "value": attention._value_dense,
            "attention_output": attention._output_dense,
            "intermediate": layer._feedforward_intermediate_dense,
            "output": layer._feedforward_output_dense,
        }
        shapes = {"intermediate": [width, -1], "output": [-1, width]}
        return {
            **{
                name: (
                    tf.cast(
                        tf.reshape(each.kernel, shapes.get(name, [width, width])),
                        self._dtype,
                    ),
                    tf.cast(tf.reshape(each.bias, [-1]), self._dtype),
                )
                for name, each in dense.items()
            },
            "attention_norm": _norm(layer._self_attention_layer_norm),
            "norm": _norm(layer._feedforward_layer_norm),
        }


def _norm(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(layer.gamma, tf.float32), tf.cast(layer.beta, tf.float32)


def _dense(inputs: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    kernel, bias = weights
    return tf.nn.bias_add(tf.matmul(inputs, kernel), bias)
