"""Matryoshka: an objective of the embeddings and of their first dimensions."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.base import Objective, Targets, TokenLoss, Trainable
from simcse_tf.objectives.views import Views


@keras.saving.register_keras_serializable("simcse_tf")
class Matryoshka(Objective):
    """Trains embeddings of which the first dimensions alone are embeddings too.

    The loss is the weighted sum of another objective's losses: of the embeddings cut
    to each of some numbers of dimensions and scaled to length 1 again. Losses of
    tokens count once.

    Args:
        objective: The other `Objective`.
        dims: Sequence of int. Numbers of dimensions, each at most the model's, which
            is not among them unless it is given.
        weights: Optional sequence of float, one for each of `dims`. Defaults to
            `None`: 1 each.

    Raises:
        ValueError: If there are no `dims`, or as many weights as there are not.

    Example:

    ```python
    model.compile("adam", objective=Matryoshka(Contrastive(), [384, 256, 128, 64]))
    ```

    Reference:
        - [Kusupati et al. 2022](https://arxiv.org/abs/2205.13147), equation 1
    """

    def __init__(
        self,
        objective: Objective,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
    ):
        self.objective = objective
        self.dims = list(dims)
        self.weights = [1.0] * len(self.dims) if weights is None else list(weights)
        if not self.dims or len(self.weights) != len(self.dims):
            raise ValueError(
                "Expected numbers of dimensions, and as many weights. "
                f"Received: {self.dims} and {self.weights}"
            )
        self.same_mask = objective.same_mask
        self.static_shapes = objective.static_shapes
        self.scored = objective.scored

    def build(self, model: Trainable) -> None:
        largest, dim = max(self.dims), model.embedding_dim
        if largest > dim or min(self.dims) < 1:
            raise UserError(
                f"objective.matryoshka: expected dimensions from 1 to {dim}, which the "
                f"model's embeddings have, received {self.dims}"
            )
        self.objective.build(model)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        return self.objective.layers

    def targets(self, texts: Sequence[tf.Tensor], scores: tf.Tensor | None) -> Targets:
        return self.objective.targets(texts, scores)

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        losses = [
            weight * self.objective.embedding_loss(l2_normalize(cut), targets)
            for cut, weight in zip(self._cut(embeddings), self.weights, strict=True)
        ]
        return tf.add_n(losses)

    def _cut(self, embeddings: tf.Tensor) -> list[tf.Tensor]:
        return [embeddings[..., :dim] for dim in self.dims]

    def token_loss(
        self, views: Views, rows: Any, seeds: Sequence[tf.Tensor]
    ) -> TokenLoss:
        return self.objective.token_loss(views, rows, seeds)

    def after_update(self, views: Views, targets: Targets, rows: Any) -> None:
        self.objective.after_update(views, targets, rows)

    def logs(self, token_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.objective.logs(token_loss)

    def get_config(self) -> dict[str, Any]:
        return {
            "objective": keras.saving.serialize_keras_object(self.objective),
            "dims": self.dims,
            "weights": self.weights,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        objective = keras.saving.deserialize_keras_object(config["objective"])
        return cls(**{**config, "objective": objective})
