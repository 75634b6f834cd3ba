"""Distillation: what a teacher thinks of the texts is what the model learns."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.distributed import collectives
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.base import Objective, Targets, Trainable
from simcse_tf.objectives.defaults import (
    DISTILLATION_LOSSES,
    DISTILLATION_WEIGHT,
    TEMPERATURE,
)
from simcse_tf.objectives.ranking import (
    cosines,
    list_mle_loss,
    listnet_loss,
    score_loss,
)
from simcse_tf.objectives.text_embeddings import TextEmbeddings

_TEACHER = "teacher"


@keras.saving.register_keras_serializable("simcse_tf")
class Distillation(Objective):
    """The distance from a teacher's embeddings of the same texts.

    It is added to a contrastive objective. An anchor's list holds the positives and
    hard negatives of the whole batch, of all replicas. Its own positive is not in the
    lists that are ranked: the contrastive loss ranks it first.

    Args:
        teacher: A `TextEmbeddings`: the teacher's embeddings of all training texts.
        loss: string. `"listnet"` or `"listmle"`: the model ranks each list as the
            teacher does (see `listnet_loss` and `list_mle_loss`). `"score"`: each
            cosine is the teacher's (see `score_loss`), also that with the own
            positive. `"embedding"`: each embedding is the teacher's (see
            `embedding_loss`). Defaults to `"listnet"`.
        weight: float. What the loss is multiplied by. Defaults to `1.0`.
        temperature: float. Divides the model's cosines where lists are ranked.
            Defaults to `0.05`.
        anchors_only: bool. Whether the teacher sees anchors alone, because positives
            are made of them as training goes on. A positive then has its anchor's
            embedding. Defaults to `False`.

    Example:

    ```python
    model.compile("adam", objective=Contrastive() + Distillation(embeddings))
    ```

    Reference:
        - [Liu et al. 2023](https://arxiv.org/abs/2305.16726), section 3.3: ranking
          distillation
    """

    def __init__(
        self,
        teacher: TextEmbeddings,
        loss: str = "listnet",
        weight: float = DISTILLATION_WEIGHT,
        temperature: float = TEMPERATURE,
        anchors_only: bool = False,
    ):
        if loss not in DISTILLATION_LOSSES:
            raise UserError(
                f"loss must be one of {', '.join(DISTILLATION_LOSSES)}; received {loss}"
            )
        self.teacher = teacher
        self.loss = loss
        self.weight = weight
        self.temperature = temperature
        self.anchors_only = anchors_only

    def build(self, model: Trainable) -> None:
        if self.loss == "embedding" and self.teacher.dim != model.embedding_dim:
            raise UserError(
                "objective.teacher: loss embedding needs a teacher with as many "
                f"dimensions as the model, {model.embedding_dim}, received "
                f"{self.teacher.dim}: take listnet, listmle or score, which compare "
                "similarities"
            )

    def targets(self, texts: Sequence[tf.Tensor], scores: tf.Tensor | None) -> Targets:
        known = texts[:1] if self.anchors_only else texts
        return {_TEACHER: self.teacher.of_batch(known)}

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        teacher = tf.unstack(targets[_TEACHER], axis=1)
        views = tf.unstack(embeddings)
        # A single sentence is there twice, and a made positive is as its anchor.
        teacher += teacher[:1] * (len(views) - len(teacher))
        if self.loss == "embedding":
            return self.weight * embedding_loss(views, teacher)
        return self.weight * self._list_loss(views, teacher)

    def _list_loss(
        self, views: Sequence[tf.Tensor], teacher: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        student_lists = cosines(views[0], _gathered(views[1:]))
        candidates = _gathered(teacher[1:])
        teacher_lists = cosines(teacher[0], candidates)
        listed = tf.broadcast_to(_is_there(candidates), tf.shape(student_lists))
        if self.loss == "score":
            return score_loss(student_lists, teacher_lists, listed)
        rows = tf.shape(views[0])[0]
        own = collectives.replica_offset(rows) + tf.range(rows)
        listed &= tf.range(tf.shape(candidates)[0]) != own[:, None]
        rank = listnet_loss if self.loss == "listnet" else list_mle_loss
        return rank(student_lists, teacher_lists, listed, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher.get_config(),
            "loss": self.loss,
            "weight": self.weight,
            "temperature": self.temperature,
            "anchors_only": self.anchors_only,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        return cls(**{**config, "teacher": TextEmbeddings(**config["teacher"])})


def embedding_loss(
    views: Sequence[tf.Tensor], teacher: Sequence[tf.Tensor]
) -> tf.Tensor:
    """The squared distance of embeddings from the teacher's, all of unit length.

    It is 2 less twice the cosine, and the dimensions' number times the mean squared
    error.

    Args:
        views: Tensors of shape `(n, dim)`, of any length.
        teacher: The teacher's for the same texts. A text that a row lacks has zeros,
            and costs nothing.

    Returns:
        float32 scalar: the mean over the examples of the mean over their texts.

    Example:

    ```python
    embedding_loss([tf.eye(4)], [tf.eye(4)])  # 0.0
    ```
    """
    there = tf.stack([_is_there(each) for each in teacher])
    distances = tf.stack(
        [
            tf.reduce_sum(tf.square(l2_normalize(view) - l2_normalize(each)), axis=1)
            for view, each in zip(views, teacher, strict=True)
        ]
    )
    texts = tf.reduce_sum(tf.cast(there, tf.float32), axis=0)
    costs = tf.reduce_sum(tf.where(there, distances, 0.0), axis=0)
    return tf.reduce_mean(tf.math.divide_no_nan(costs, texts))


def _gathered(columns: Sequence[tf.Tensor]) -> tf.Tensor:
    """All replicas' candidates, column by column."""
    return tf.concat([collectives.gather(column) for column in columns], axis=0)


def _is_there(teacher: tf.Tensor) -> tf.Tensor:
    """Whether a text is there: what a row lacks has an embedding of zeros."""
    return tf.reduce_any(teacher != 0, axis=1)
