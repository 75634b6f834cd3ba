"""The interface of negatives that join those of the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
import tensorflow as tf

from simcse_tf.objectives.base import Trainable
from simcse_tf.objectives.views import Views


class Negatives(ABC):
    """Negatives beside those of the batch, for `Contrastive(negatives=[...])`.

    Example:

    ```python
    Contrastive(negatives=[MomentumQueue(size=160), MixedNegatives(0.2)])
    ```
    """

    def build(self, model: Trainable) -> None:  # noqa: B027  most need none
        """Makes what the negatives come from, before a first step.

        Args:
            model: A `simcse_tf.SimCSE`.

        Raises:
            UserError: If the model has no such negatives.
        """

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that `build` made."""
        return []

    @abstractmethod
    def of_batch(
        self, positives: tf.Tensor, own: tf.Tensor, ids: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The negatives of a replica's anchors.

        Args:
            positives: float32 tensor of shape `(m, dim)`, those of all replicas.
            own: int tensor of shape `(n,)`. The rows of the anchors' own positives.
            ids: Optional int64 tensor of shape `(n, columns)`: see `text_ids`. Given
                where texts that are equal are no negatives of each other.

        Returns:
            Tuple of a float32 tensor of shape `(k, dim)`, and of a bool tensor that
            broadcasts to `(n, k)`: which of them an anchor's sum leaves out.
        """

    def after_update(  # noqa: B027  most need none
        self, views: Views, rows: Any, ids: tf.Tensor | None
    ) -> None:
        """Takes note of a batch; see `Objective.after_update`."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, in Keras' serialized form."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Negatives:
        """The negatives that `get_config` describes."""
        return cls(**config)
