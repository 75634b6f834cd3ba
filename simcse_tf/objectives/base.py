"""The interface of a training objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import keras_hub
import tensorflow as tf

from simcse_tf.encoders.embedder import Embedder
from simcse_tf.objectives.views import Views
from simcse_tf.tokenizers.base import Tokenizer

# Function of a micro-batch's index.
TokenLoss = Callable[[Any], tf.Tensor]

# Tensors whose first dimension is that of the batch, by name.
Targets = Mapping[str, tf.Tensor]


class EncoderCopy(Protocol):
    """What an objective may know of an encoder that it copies, and of the copy.

    Attributes:
        backbone: The encoder's weights.
        head: The head, if there is one.
        embedder: What embeds.
        trainable: bool. Whether gradients are taken of the weights.
        embedding_dim: int. Columns of the embeddings.
    """

    backbone: keras_hub.models.Backbone
    head: keras.layers.Layer | None
    embedder: Embedder
    trainable: bool

    @property
    def embedding_dim(self) -> int: ...

    def copied(self) -> EncoderCopy: ...


class Trainable(Protocol):
    """What an objective may know of the model that it trains.

    Attributes:
        backbone: The encoder's weights.
        tokenizer: The backbone's tokenizer.
        preset: What the model was loaded from, if it was.
        static_shapes: bool. Whether shapes must not depend on the data.
        embedding_dim: int. Columns of the embeddings.
    """

    backbone: keras_hub.models.Backbone
    tokenizer: Tokenizer
    preset: str | None
    static_shapes: bool

    @property
    def embedding_dim(self) -> int: ...

    def candidate_encoder(self) -> EncoderCopy:
        """What embeds positives and hard negatives."""


class Objective(ABC):
    """What a training step minimizes.

    An objective is a function of a whole batch's embeddings. It may add a function of
    each micro-batch's tokens. Objectives compose: `+` adds two, and one may wrap
    another.

    Example:

    ```python
    model.compile("adam", objective=Contrastive(temperature=0.05) + MaskedLM(0.1))
    ```
    """

    same_mask = False
    """Whether the views of a step share one dropout mask."""

    static_shapes = True
    """Whether its shapes follow from the batch's alone, so that XLA can compile it."""

    scored = False
    """Whether it is trained on pairs with scores; else on texts alone."""

    def build(self, model: Trainable) -> None:  # noqa: B027  most need none
        """Makes the layers that are trained beside the encoder, before a first step.

        Args:
            model: A `simcse_tf.SimCSE`.

        Raises:
            UserError: If the model cannot be trained with this objective.
        """

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that `build` made."""
        return []

    def targets(self, texts: Sequence[tf.Tensor], scores: tf.Tensor | None) -> Targets:
        """What the loss compares embeddings with, computed from the texts themselves.

        It is called in the input pipeline, on the CPU. The step sees no strings.

        Args:
            texts: The batch's columns, string tensors of shape `(n,)`.
            scores: Optional float32 tensor of shape `(n,)`, where pairs have scores.

        Returns:
            Dictionary of tensors whose first dimension is `n`. Empty if the loss
            follows from the embeddings alone.

        Raises:
            UserError: If the objective cannot be trained on such columns.
        """
        return {}

    @abstractmethod
    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        """The loss of a replica's whole batch.

        Args:
            embeddings: float32 tensor of shape `(views, n, dim)`: the anchors, the
                positives and, where there are any, the hard negatives.
            targets: What the method `targets` returned for these examples.

        Returns:
            float32 scalar.
        """

    def token_loss(
        self, views: Views, rows: Any, seeds: Sequence[tf.Tensor]
    ) -> TokenLoss:
        """A loss that is added, micro-batch by micro-batch.

        Args:
            views: The replica's whole batch; see `stack_views`.
            rows: int or int scalar. Examples of a micro-batch.
            seeds: Two int32 tensors of shape `(2,)` for what is random.

        Returns:
            Function of a micro-batch's index. It returns a float32 scalar, the same
            one at every call.
        """
        return lambda index: tf.zeros(())

    def after_update(  # noqa: B027  most need none
        self, views: Views, targets: Targets, rows: Any
    ) -> None:
        """Takes note of a batch, when the step has updated the weights.

        It is called on every replica. What it changes must become the same on all of
        them (`collectives.assign`). A step that loss scaling skips has left the
        weights as they were.

        Args:
            views: As for `token_loss`.
            targets: As for `embedding_loss`.
            rows: As for `token_loss`.
        """

    def logs(self, token_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        """What to log beside the loss, given the sum of the token losses."""
        return {}

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, in Keras' serialized form."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        """The objective that `get_config` describes."""
        return cls(**config)

    def __add__(self, other: Objective) -> Objective:
        return Sum(self, other)


@keras.saving.register_keras_serializable("simcse_tf")
class Sum(Objective):
    """Two objectives added; `first + second` makes it.

    Args:
        first: An `Objective`.
        second: An `Objective`.

    Example:

    ```python
    Sum(Contrastive(), MaskedLM(0.1))  # as `Contrastive() + MaskedLM(0.1)`
    ```
    """

    def __init__(self, first: Objective, second: Objective):
        self.first = first
        self.second = second
        self.same_mask = first.same_mask or second.same_mask
        self.static_shapes = first.static_shapes and second.static_shapes
        self.scored = first.scored or second.scored

    def build(self, model: Trainable) -> None:
        self.first.build(model)
        self.second.build(model)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        return [*self.first.layers, *self.second.layers]

    def targets(self, texts: Sequence[tf.Tensor], scores: tf.Tensor | None) -> Targets:
        return {
            **self.first.targets(texts, scores),
            **self.second.targets(texts, scores),
        }

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        first = self.first.embedding_loss(embeddings, targets)
        return first + self.second.embedding_loss(embeddings, targets)

    def token_loss(
        self, views: Views, rows: Any, seeds: Sequence[tf.Tensor]
    ) -> TokenLoss:
        first = self.first.token_loss(views, rows, seeds)
        second = self.second.token_loss(views, rows, seeds)
        return lambda index: first(index) + second(index)

    def after_update(self, views: Views, targets: Targets, rows: Any) -> None:
        self.first.after_update(views, targets, rows)
        self.second.after_update(views, targets, rows)

    def logs(self, token_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**self.first.logs(token_loss), **self.second.logs(token_loss)}

    def get_config(self) -> dict[str, Any]:
        return {
            "first": keras.saving.serialize_keras_object(self.first),
            "second": keras.saving.serialize_keras_object(self.second),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sum:
        parts = map(keras.saving.deserialize_keras_object, config.values())
        return cls(*parts)
