"""An encoder of KerasHub's own layers: for any backbone.

The layers compute on padded batches, and XLA can compile them. `transformer.py` does
the same in less time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.encoders.activations import activation_of
from simcse_tf.encoders.base import Encoder, Features, Weights
from simcse_tf.encoders.dropout import (
    check_keras_dropout,
    dropout_seed_scope,
    random_states,
)


class EncoderLayer(NamedTuple):
    """The parts of a `keras_hub.layers.TransformerEncoder`."""

    attention: keras.layers.MultiHeadAttention
    attention_dropout: keras.layers.Dropout
    attention_norm: keras.layers.LayerNormalization
    intermediate: keras.layers.Dense
    output: keras.layers.Dense
    output_dropout: keras.layers.Dropout
    output_norm: keras.layers.LayerNormalization


class KerasLayersEncoder(Encoder):
    """The forward pass as KerasHub defines it. See `Encoder` for the arguments.

    Its shapes are static, whether that is asked for or not.

    Raises:
        ValueError: If layers before the last are wanted and the backbone has no
            `TransformerEncoder` layers.
        RuntimeError: If this Keras does not draw dropout masks from given seeds.

    Example:

    ```python
    encoder = KerasLayersEncoder(backbone, layers=(-1,))
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
        check_keras_dropout()
        self._model = hidden_state_model(backbone, layers)
        self._random_states = random_states(backbone)

    def weights(self) -> Weights:
        # The layers read their own variables.
        return {}

    def hidden_states(
        self, weights: Weights, features: Features, seed: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        if seed is None:
            found = self._model(dict(features), training=False)
        else:
            with dropout_seed_scope(seed, self._random_states):
                found = self._model(dict(features), training=True)
        return keras.tree.flatten(found)


def hidden_state_model(
    backbone: keras_hub.models.Backbone, layers: Sequence[int]
) -> keras.Model:
    """A functional model from the backbone's inputs to hidden states.

    Args:
        backbone: A `keras_hub.models.Backbone`.
        layers: ints. The transformer layers whose hidden states are wanted.

    Raises:
        ValueError: If layers before the last are wanted and the backbone has no
            `TransformerEncoder` layers.

    Example:

    ```python
    hidden_state_model(backbone, layers=(0, -1))(features)  # first and last layer
    ```
    """
    outputs = [sequence_output(backbone)]
    if tuple(layers) != (-1,):
        encoder_layers = transformer_layers(backbone)
        if not encoder_layers:
            raise ValueError(
                "`pooling` needs hidden states of several layers, and so a backbone of "
                f"TransformerEncoder layers. Received: {type(backbone).__name__}"
            )
        outputs = [encoder_layers[index].output for index in layers]
    return keras.Model(backbone.input, outputs)


def freeze_unread_layers(
    backbone: keras_hub.models.Backbone, layers: Sequence[int]
) -> None:
    """Freezes the layers that the wanted hidden states do not pass through.

    BERT's pooler is one of them. Without a gradient its weights would only add to the
    work, and weight decay would move them.

    Args:
        backbone: A `keras_hub.models.Backbone`.
        layers: ints. The transformer layers whose hidden states are wanted.

    Example:

    ```python
    freeze_unread_layers(backbone, layers=(-1,))
    backbone.pooled_dense.trainable  # False
    ```
    """
    read = hidden_state_model(backbone, layers).layers
    for layer in backbone.layers:
        if layer not in read:
            layer.trainable = False


def sequence_output(backbone: keras_hub.models.Backbone) -> Any:
    """The symbolic hidden states of the last layer, `(n, length, dim)`.

    Example:

    ```python
    sequence_output(backbone).shape  # (None, None, 768)
    ```
    """
    output = backbone.output
    return output["sequence_output"] if isinstance(output, Mapping) else output


def transformer_layers(
    backbone: keras_hub.models.Backbone,
) -> list[keras_hub.layers.TransformerEncoder]:
    """The `TransformerEncoder` layers of a backbone, the first one first.

    Example:

    ```python
    len(transformer_layers(backbone))  # 12 for BERT-base
    ```
    """
    encoder = keras_hub.layers.TransformerEncoder
    return [layer for layer in backbone.layers if isinstance(layer, encoder)]


def configure_layers(
    backbone: keras_hub.models.Backbone,
    activation: str | None = None,
    layer_norm_epsilon: float | None = None,
) -> None:
    """Sets what KerasHub's backbones have no argument for, in their layers.

    Args:
        backbone: A `keras_hub.models.Backbone`.
        activation: Optional string. What the feed-forward layers compute: a key of
            `simcse_tf.encoders.activations.ACTIVATIONS`. Defaults to the backbone's.
        layer_norm_epsilon: Optional float. The epsilon of all layer normalizations,
            the embeddings' included. Defaults to the backbone's.

    Raises:
        UserError: If there is no such activation.

    Example:

    ```python
    configure_layers(backbone, "gelu")  # exact GELU in place of the approximation
    ```
    """
    layers = list(map(parts_of, transformer_layers(backbone)))
    if activation is not None:
        function = activation_of(activation)
        for layer in layers:
            layer.intermediate.activation = function
    if layer_norm_epsilon is not None:
        norms = [
            norm for each in layers for norm in (each.attention_norm, each.output_norm)
        ]
        for norm in [backbone.embeddings_layer_norm, *norms]:
            norm.epsilon = layer_norm_epsilon


def parts_of(layer: keras_hub.layers.TransformerEncoder) -> EncoderLayer:
    """The sublayers of a transformer layer.

    KerasHub gives them private names. No other code uses these names; one that
    is gone raises an `AttributeError`.

    Example:

    ```python
    parts_of(transformer_layers(backbone)[0]).intermediate.units  # 3072
    ```
    """
    return EncoderLayer(
        attention=layer._self_attention_layer,
        attention_dropout=layer._self_attention_dropout,
        attention_norm=layer._self_attention_layer_norm,
        intermediate=layer._feedforward_intermediate_dense,
        output=layer._feedforward_output_dense,
        output_dropout=layer._feedforward_dropout,
        output_norm=layer._feedforward_layer_norm,
    )


def dense_of(layer: keras_hub.layers.TransformerEncoder) -> dict[str, Any]:
    """The dense layers of a transformer layer, by the names that LoRA's targets have.

    Example:

    ```python
    dense_of(transformer_layers(backbone)[0])["query"].kernel.shape  # (768, 12, 64)
    ```
    """
    parts = parts_of(layer)
    return {
        "query": parts.attention.query_dense,
        "key": parts.attention.key_dense,
        "value": parts.attention.value_dense,
        "attention_output": parts.attention.output_dense,
        "intermediate": parts.intermediate,
        "output": parts.output,
    }


def adapt_like(
    backbone: keras_hub.models.Backbone, other: keras_hub.models.Backbone
) -> None:
    """Gives a backbone the variables of LoRA that another one has.

    Args:
        backbone: The other one, with LoRA or without.
        other: One of the same layers, which gets them.

    Example:

    ```python
    adapt_like(backbone, other)
    other.set_weights(backbone.get_weights())
    ```
    """
    layers = map(transformer_layers, (backbone, other))
    for one, another in zip(*layers, strict=True):
        dense = dense_of(one).values(), dense_of(another).values()
        for source, target in zip(*dense, strict=True):
            if source.lora_enabled:
                target.enable_lora(source.lora_rank, lora_alpha=source.lora_alpha)


@contextmanager
def exact_lora(backbone: keras_hub.models.Backbone) -> Iterator[None]:
    """Lets a file that is written meanwhile have adapted kernels in float32.

    Keras writes the sum of a kernel and its low-rank product in the precision that the
    layer computes in, and so rounds it.

    Args:
        backbone: The backbone, with LoRA or without.

    Example:

    ```python
    with exact_lora(backbone):
        backbone.save_to_preset("models/mine")
    ```
    """
    dense = [
        d for layer in transformer_layers(backbone) for d in dense_of(layer).values()
    ]
    rounded = [d for d in dense if d.lora_enabled and d.compute_dtype != "float32"]
    policies = [layer.dtype_policy for layer in rounded]
    try:
        for layer in rounded:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in zip(rounded, policies, strict=True):
            layer.dtype_policy = policy
