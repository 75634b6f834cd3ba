"""Objectives for pairs with scores: similarities are to rank as the scores do."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.distributed import collectives
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.base import Objective, Targets
from simcse_tf.objectives.defaults import TEMPERATURE


@keras.saving.register_keras_serializable("simcse_tf")
class CoSENT(Objective):
    """Ranks the cosines of a batch's pairs as their scores rank them.

    All pairs of all replicas are compared with each other: see `ranking_loss` for the
    formula. A pair's scale does not matter, only which of two scores is higher.

    Args:
        temperature: float. Divides every cosine. Defaults to `0.05`.

    Example:

    ```python
    model.compile("adam", objective=CoSENT())
    model.fit((sentences, others), scores)
    ```

    Reference:
        - [Su 2022](https://kexue.fm/archives/8847), CoSENT
    """

    scored = True

    def __init__(self, temperature: float = TEMPERATURE):
        self.temperature = temperature

    def targets(self, texts: Sequence[tf.Tensor], scores: tf.Tensor | None) -> Targets:
        if scores is None or len(texts) != 2:
            raise UserError(
                f"{type(self).__name__}: expected two columns of texts and their "
                f"scores, received {len(texts)} columns "
                f"{'without' if scores is None else 'with'} scores"
            )
        return {"scores": scores}

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        similarities = self.similarities(*tf.unstack(embeddings, 2))
        return ranking_loss(
            collectives.gather(similarities),
            collectives.gather(targets["scores"]),
            self.temperature,
        )

    def similarities(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """What is ranked: float32 `(n,)` for two tensors of embeddings `(n, dim)`."""
        return tf.reduce_sum(l2_normalize(first) * l2_normalize(second), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature}


@keras.saving.register_keras_serializable("simcse_tf")
class AnglE(CoSENT):
    """Ranks the pairs by angles in complex space, which do not saturate as cosines do.

    See `angle_similarities` for what is ranked, in the order of the authors' code: the
    paper's equation 3 has the two pairs the other way round. This is the paper's angle
    objective alone; `CoSENT() + AnglE()` adds its cosine objective.

    Args:
        temperature: float. Divides every similarity. Defaults to `0.05`.

    Example:

    ```python
    model.compile("adam", objective=AnglE())
    model.fit((sentences, others), scores)
    ```

    Reference:
        - [Li and Li 2023](https://arxiv.org/abs/2309.12871), section 3.4
    """

    def similarities(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        return angle_similarities(first, second)


def ranking_loss(
    similarities: tf.Tensor, scores: tf.Tensor, temperature: float = TEMPERATURE
) -> tf.Tensor:
    """CoSENT's loss: every pair of a higher score is to be the more similar one.

    With similarities `s`, scores `y` and temperature `t`, it is

    ```
    log( 1 + sum_[i, j: y_i < y_j] e^((s_i - s_j)/t) )
    ```

    and 0 where all scores are equal.

    Args:
        similarities: float32 tensor of shape `(n,)`.
        scores: float32 tensor of shape `(n,)`.
        temperature: float. Divides every similarity. Defaults to `0.05`.

    Returns:
        float32 scalar.

    Example:

    ```python
    ranking_loss(tf.constant([0.9, 0.1]), tf.constant([5.0, 0.0]))  # nearly 0
    ```

    Reference:
        - [Su 2022](https://kexue.fm/archives/8847), CoSENT
        - [Li and Li 2023](https://arxiv.org/abs/2309.12871), equation 2
    """
    logits = similarities / temperature
    excess = logits[:, None] - logits[None, :]
    ordered = scores[:, None] < scores[None, :]
    terms = tf.where(ordered, excess, -float("inf"))
    return tf.reduce_logsumexp(tf.concat([[0.0], tf.reshape(terms, [-1])], axis=0))


def angle_similarities(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """AnglE's similarity of pairs.

    The halves of a vector are real and imaginary parts of complex numbers. The
    similarity is the absolute sum of the parts of their quotients, with both vectors at
    unit length. An odd dimension gets a zero behind it.

    Args:
        first: Tensor of shape `(n, dim)`. Embeddings of any length.
        second: Tensor of shape `(n, dim)`.

    Returns:
        float32 tensor of shape `(n,)`.

    Example:

    ```python
    angle_similarities(tf.constant([[1.0, 0.0]]), tf.constant([[1.0, 0.0]]))  # [1.0]
    ```

    Reference:
        - [Li and Li 2023](https://arxiv.org/abs/2309.12871), equations 5 to 8
    """
    odd = first.shape[-1] % 2
    a, b = (
        tf.split(tf.pad(l2_normalize(z), [[0, 0], [0, odd]]), 2, axis=-1)
        for z in (first, second)
    )
    real = a[0] * b[0] + a[1] * b[1]
    imaginary = a[1] * b[0] - a[0] * b[1]
    return tf.abs(tf.reduce_sum(real + imaginary, axis=-1))
