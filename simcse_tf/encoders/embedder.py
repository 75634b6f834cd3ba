"""From token ids to sentence embeddings: encoder, pooling, head."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.encoders.base import Features, Weights
from simcse_tf.encoders.families import encoder_of
from simcse_tf.encoders.keras_layers import sequence_output
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.encoders.pooling import (
    layers_read,
    pool,
    poolers_of,
    reads_first_token,
)


class Embedder:
    """Embeds tokenized sentences with a backbone, a pooler and an optional head.

    Args:
        backbone: A `keras_hub.models.Backbone`.
        pooling: string. See `simcse_tf.encoders.pooling.poolers_of`.
        head: Optional built `keras.layers.Layer`, from the pooled vector to the
            embedding.
        head_in_inference: bool. If `False`, the head is used in training only.
            Defaults to `True`.
        static_shapes: bool. See `encoder_of`. Defaults to `False`.

    Raises:
        UserError: If the pooling is unknown.
        ValueError: If the backbone cannot serve it.

    Example:

    ```python
    embedder = Embedder(backbone, "avg")
    embedder.embed(model.preprocess(["A man plays."]))  # float32, (1, dim)
    ```
    """

    def __init__(
        self,
        backbone: keras_hub.models.Backbone,
        pooling: str,
        head: keras.layers.Layer | None = None,
        head_in_inference: bool = True,
        static_shapes: bool = False,
    ):
        self.encoder = encoder_of(
            backbone, layers_read(pooling), reads_first_token(pooling), static_shapes
        )
        self.pooling = pooling
        self.pooled_dim = pooled_dim(backbone, pooling)
        self.head = head
        self.head_in_inference = head_in_inference

    @property
    def dim(self) -> int:
        """Columns of an embedding outside training."""
        if self.head is None or not self.head_in_inference:
            return self.pooled_dim
        return int(self.head.compute_output_shape((None, self.pooled_dim))[-1])

    def weights(self) -> Weights:
        """The encoder's weights as they are now; see `Encoder.weights`."""
        return self.encoder.weights()

    def head_weights(self) -> list[tf.Tensor]:
        """The head's weights as they are now."""
        variables = [] if self.head is None else self.head.variables
        return [tf.convert_to_tensor(variable) for variable in variables]

    def embed(
        self,
        features: Features,
        weights: Weights | None = None,
        seed: tf.Tensor | None = None,
        normalize: bool = True,
        head_weights: Sequence[tf.Tensor] | None = None,
    ) -> Any:
        """Embeds a batch.

        Args:
            features: What `SimCSE.preprocess` returns.
            weights: Optional result of `weights`. Defaults to the present ones.
            seed: Optional int32 tensor of shape `(2,)`. Given in training: dropout
                masks follow from it, and the head is used. Defaults to `None`.
            normalize: bool. Whether to l2-normalize the embeddings. Defaults to
                `True`.
            head_weights: Optional result of `head_weights`. Defaults to the present
                ones.

        Returns:
            float32 tensor of shape `(n, dim)`.
        """
        pooled = self.pooled(features, weights, seed)
        return self.finished(pooled, seed is not None, normalize, head_weights)

    def pooled(
        self,
        features: Features,
        weights: Weights | None = None,
        seed: tf.Tensor | None = None,
    ) -> Any:
        """The encoder and the pooler, without the head.

        Args:
            features: As for `embed`.
            weights: As for `embed`.
            seed: As for `embed`.

        Returns:
            Floating tensor of shape `(n, pooled_dim)`, in the compute dtype.
        """
        if weights is None:
            weights = self.weights()
        hidden_states = self.encoder.hidden_states(weights, features, seed)
        return pool(hidden_states, features["padding_mask"], self.pooling)

    def finished(
        self,
        pooled: tf.Tensor,
        training: bool = False,
        normalize: bool = True,
        head_weights: Sequence[tf.Tensor] | None = None,
    ) -> Any:
        """Makes embeddings of pooled vectors: the head, and l2-normalization.

        Args:
            pooled: What `pooled` returns.
            training: bool. Whether a head that is for training alone is used.
                Defaults to `False`.
            normalize: As for `embed`.
            head_weights: As for `embed`.

        Returns:
            float32 tensor of shape `(n, dim)`.
        """
        if self.head is not None and (training or self.head_in_inference):
            given = list(zip(self.head.variables, head_weights or (), strict=False))
            with keras.StatelessScope(given) if given else nullcontext():
                pooled = self.head(pooled)
        return l2_normalize(pooled) if normalize else tf.cast(pooled, tf.float32)


def pooled_dim(backbone: keras_hub.models.Backbone, pooling: str) -> int:
    """Columns of a pooled vector: as many times the backbone's as there are poolers.

    Example:

    ```python
    pooled_dim(backbone, "avg+max")  # 1536 for BERT-base
    ```
    """
    return int(sequence_output(backbone).shape[-1]) * len(poolers_of(pooling))
