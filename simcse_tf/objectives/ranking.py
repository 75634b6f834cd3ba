"""Learning to rank a batch: RankCSE's losses on lists of similarities.

An anchor's list is its similarities with the batch's candidates. A model ranks a list;
two lists of the same candidates can be compared.

Reference:
    - [Liu et al. 2023](https://arxiv.org/abs/2305.16726), section 3
"""

from typing import Any

import keras
import tensorflow as tf

from simcse_tf.distributed import collectives
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.base import Objective, Targets
from simcse_tf.objectives.defaults import TEMPERATURE

# In a list, of what is not in it. Infinity would make gradients NaN.
_LEFT_OUT = -1e9


@keras.saving.register_keras_serializable("simcse_tf")
class RankingConsistency(Objective):
    """How differently the two views of an example rank the batch.

    View 1 of an example and view 2 of all others make one list, view 2 and view 1 of
    all others the other one. It is added to a contrastive objective. Of pairs, the
    views are anchors and positives; hard negatives are in no list.

    Args:
        weight: float. What the divergence is multiplied by. Defaults to `1.0`, as in
            RankCSE.
        temperature: float. Divides every cosine. Defaults to `0.05`.

    Example:

    ```python
    model.compile("adam", objective=Contrastive() + RankingConsistency())
    ```

    Reference:
        - [Liu et al. 2023](https://arxiv.org/abs/2305.16726), section 3.2: ranking
          consistency
    """

    def __init__(self, weight: float = 1.0, temperature: float = TEMPERATURE):
        self.weight = weight
        self.temperature = temperature

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        first, second = embeddings[0], embeddings[1]
        return self.weight * consistency_loss(
            cosines(first, collectives.gather(second)) / self.temperature,
            cosines(second, collectives.gather(first)) / self.temperature,
        )

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "temperature": self.temperature}


def cosines(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """The anchors' lists.

    Args:
        anchors: Tensor of shape `(n, dim)`, of any length.
        candidates: Tensor of shape `(m, dim)`.

    Returns:
        float32 tensor of shape `(n, m)`.

    Example:

    ```python
    cosines(tf.eye(2), tf.eye(2))  # [[1.0, 0.0], [0.0, 1.0]]
    ```
    """
    return tf.matmul(l2_normalize(anchors), l2_normalize(candidates), transpose_b=True)


def consistency_loss(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """The Jensen-Shannon divergence of two models' choice from the same lists.

    Args:
        first: float32 tensor of shape `(n, m)`. Logits of a choice.
        second: float32 tensor of shape `(n, m)`.

    Returns:
        float32 scalar: the mean over the lists, 0 to ln 2.

    Example:

    ```python
    consistency_loss(tf.constant([[9.0, -9.0]]), tf.constant([[-9.0, 9.0]]))  # 0.69
    ```
    """
    p, q = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    middle = tf.reduce_logsumexp(tf.stack([p, q]), axis=0) - tf.math.log(2.0)
    divergence = tf.exp(p) * (p - middle) + tf.exp(q) * (q - middle)
    return tf.reduce_mean(tf.reduce_sum(divergence, axis=1)) / 2


def listnet_loss(
    student: tf.Tensor, teacher: tf.Tensor, listed: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Cross-entropy of the teacher's choice of a list's first candidate.

    The teacher's temperature is half the student's, as in RankCSE.

    Args:
        student: float32 tensor of shape `(n, m)`. Cosines.
        teacher: float32 tensor of shape `(n, m)`. Cosines of the same texts.
        listed: bool tensor of shape `(n, m)`. Which candidates are in a list.
        temperature: float. Divides the student's cosines.

    Returns:
        float32 scalar: the mean over the lists. An empty one costs nothing.

    Example:

    ```python
    listnet_loss(cosines(z, z), cosines(t, t), ~tf.eye(8, dtype="bool"), 0.05)
    ```

    Reference:
        - [Liu et al. 2023](https://arxiv.org/abs/2305.16726), section 3.3: ListNet
    """
    log_choice = tf.nn.log_softmax(_masked(student / temperature, listed))
    choice = tf.nn.softmax(_masked(teacher / (temperature / 2), listed))
    costs = tf.where(listed, -choice * log_choice, 0.0)
    return tf.reduce_mean(tf.reduce_sum(costs, axis=1))


def list_mle_loss(
    student: tf.Tensor, teacher: tf.Tensor, listed: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Minus the log-likelihood of the teacher's order of a list.

    The order is drawn candidate by candidate, each from those that are left. The
    likelihood is divided by the number of candidates: else its weight would grow with
    the batch.

    Args:
        student: As for `listnet_loss`.
        teacher: As for `listnet_loss`; only their order counts. Of equal ones, the
            first stands first.
        listed: As for `listnet_loss`.
        temperature: float. Divides the student's cosines.

    Returns:
        float32 scalar: the mean over the lists. An empty one costs nothing.

    Example:

    ```python
    list_mle_loss(cosines(z, z), cosines(t, t), ~tf.eye(8, dtype="bool"), 0.05)
    ```

    Reference:
        - [Liu et al. 2023](https://arxiv.org/abs/2305.16726), section 3.3: ListMLE
    """
    order = tf.argsort(-_masked(teacher, listed), axis=1, stable=True)
    logits = tf.gather(_masked(student / temperature, listed), order, batch_dims=1)
    left = tf.math.cumulative_logsumexp(logits, axis=1, reverse=True)
    # What is not in the list stands at its end.
    costs = tf.where(tf.gather(listed, order, batch_dims=1), left - logits, 0.0)
    return tf.reduce_mean(_mean_of(costs, listed))


def score_loss(student: tf.Tensor, teacher: tf.Tensor, listed: tf.Tensor) -> tf.Tensor:
    """The mean squared difference of the student's and the teacher's cosines.

    Args:
        student: As for `listnet_loss`.
        teacher: As for `listnet_loss`.
        listed: As for `listnet_loss`.

    Returns:
        float32 scalar: the mean over the lists. An empty one costs nothing.

    Example:

    ```python
    score_loss(cosines(z, z), cosines(t, t), tf.ones([8, 8], "bool"))
    ```
    """
    costs = tf.where(listed, tf.square(student - teacher), 0.0)
    return tf.reduce_mean(_mean_of(costs, listed))


def _masked(values: tf.Tensor, listed: tf.Tensor) -> tf.Tensor:
    return tf.where(listed, values, _LEFT_OUT)


def _mean_of(costs: tf.Tensor, listed: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(
        tf.reduce_sum(costs, axis=1),
        tf.reduce_sum(tf.cast(listed, tf.float32), axis=1),
    )
