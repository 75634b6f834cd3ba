"""The interface of an encoder: token ids to hidden states."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import keras_hub
import tensorflow as tf

# Tensors by name, nested. They change with every training step, the graph does not.
Weights = dict[str, Any]
# A batch of token ids as the backbone takes it, by the name of the input.
Features = Mapping[str, tf.Tensor]


class Encoder(ABC):
    """The forward pass of a backbone.

    KerasHub's backbone holds the weights and knows the file format. An encoder
    computes with those weights. `simcse_tf.encoders.families.encoder_of` chooses the
    encoder of a backbone, once; training, `predict`, `encode` and exports all use it.

    Args:
        backbone: A `keras_hub.models.Backbone`.
        layers: ints. The transformer layers whose hidden states are wanted, as
            `simcse_tf.encoders.pooling.layers_read` names them.
        first_token: bool. Whether only the first token of the last of these layers
            is wanted. The encoder may then leave out work. Defaults to `False`.
        static_shapes: bool. Whether shapes must follow from those of the features
            alone, as XLA and TPUs ask. Defaults to `False`.

    Example:

    ```python
    encoder = encoder_of(backbone, layers=(-1,))
    [hidden_states] = encoder.hidden_states(encoder.weights(), features)
    ```
    """

    @abstractmethod
    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        layers: Sequence[int],
        first_token: bool = False,
        static_shapes: bool = False,
    ): ...

    @abstractmethod
    def weights(self) -> Weights:
        """The weights that `hidden_states` reads, as they are now."""

    @abstractmethod
    def hidden_states(
        self, weights: Weights, features: Features, seed: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Runs the backbone.

        Args:
            weights: What `weights` returns.
            features: The backbone's inputs, int32 tensors of shape `(n, length)`.
                All tokens are of segment 0.
            seed: Optional int32 tensor of shape `(2,)`. All dropout masks follow
                from it, and each sentence has masks of its own. Defaults to `None`:
                no dropout.

        Returns:
            The hidden states of the wanted layers, in the compute dtype, each of
            shape `(n, length, dim)`. With `first_token` the last ones may have the
            shape `(n, 1, dim)`.
        """


def longest_input(backbone: keras_hub.models.Backbone) -> int:
    """How many tokens a backbone has positions for.

    Args:
        backbone: A `keras_hub.models.Backbone`.

    Example:

    ```python
    longest_input(backbone)  # 512
    ```
    """
    return int(backbone.max_sequence_length)
