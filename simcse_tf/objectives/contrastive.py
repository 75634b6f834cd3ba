"""SimCSE's own objective: the contrastive loss."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from simcse_tf.distributed import collectives
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.base import Objective, Targets
from simcse_tf.objectives.defaults import HARD_NEGATIVE_WEIGHT, TEMPERATURE


@keras.saving.register_keras_serializable("simcse_tf")
class Contrastive(Objective):
    """Cross-entropy of picking one's own positive among the batch's candidates.

    Candidates come from all replicas: see `contrastive_loss` for the formula.

    Args:
        temperature: float. Divides every cosine. Defaults to `0.05`.
        hard_negative_weight: float. Logarithmic weight of an anchor's own hard
            negative in the denominator. Defaults to `0.0`.
        same_mask: bool. Whether the views of a step share one dropout mask: the
            paper's "fixed 0.1", which has nothing to learn from. Defaults to
            `False`.

    Example:

    ```python
    model.compile("adam", objective=Contrastive(hard_negative_weight=1.0))
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), equations 1, 4 and 5,
          and appendix B for the hard-negative weight.
    """

    def __init__(
        self,
        temperature: float = TEMPERATURE,
        hard_negative_weight: float = HARD_NEGATIVE_WEIGHT,
        same_mask: bool = False,
    ):
        self.temperature = temperature
        self.hard_negative_weight = hard_negative_weight
        self.same_mask = same_mask

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        anchor, *candidates = tf.unstack(embeddings)
        return contrastive_loss(
            anchor,
            *[collectives.gather(candidate) for candidate in candidates],
            temperature=self.temperature,
            hard_negative_weight=self.hard_negative_weight,
            offset=collectives.replica_offset(tf.shape(anchor)[0]),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "hard_negative_weight": self.hard_negative_weight,
            "same_mask": self.same_mask,
        }


def contrastive_loss(
    anchor: Any,
    positive: Any,
    hard_negative: Any = None,
    *,
    temperature: float = TEMPERATURE,
    hard_negative_weight: float = HARD_NEGATIVE_WEIGHT,
    offset: Any = 0,
) -> Any:
    """SimCSE's loss: cross-entropy of picking one's own positive in the batch.

    With cosine similarity `sim`, temperature `t` and hard-negative weight `a`,
    anchor `i` costs

    ```
    -log( e^(sim(z_i, z+_i)/t) /
          sum_j [ e^(sim(z_i, z+_j)/t) + e^(a*[i=j]) * e^(sim(z_i, z-_j)/t) ] )
    ```

    where the second term of the sum is there for triplets only. The
    computation is in float32 whatever the embeddings' precision.

    Args:
        anchor: Tensor of shape `(n, dim)`. Embeddings z, of any length.
        positive: Tensor of shape `(m, dim)`, `m >= n`. Embeddings z+; those that
            are not an anchor's own are its in-batch negatives.
        hard_negative: Optional tensor of shape `(m, dim)`. Embeddings z-.
        temperature: float. Divides every cosine. Defaults to `0.05`.
        hard_negative_weight: float. Logarithmic weight of an anchor's own hard
            negative in the denominator. Defaults to `0.0`.
        offset: int or scalar int tensor. Anchor `i`'s own positive and hard
            negative stand in row `offset + i`; it is not 0 where the candidates
            were gathered from several replicas. Defaults to `0`.

    Returns:
        float32 scalar: the mean over the `n` anchors.

    Example:

    ```python
    anchors, positives = np.random.normal(size=(2, 8, 16)).astype("float32")
    contrastive_loss(anchors, positives, temperature=0.05)
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), equations 1, 4 and 5,
          and appendix B for the hard-negative weight.
    """
    anchor, positive = l2_normalize(anchor), l2_normalize(positive)
    own = offset + ops.arange(ops.shape(anchor)[0])
    logits = ops.matmul(anchor, ops.transpose(positive)) / temperature
    if hard_negative is not None:
        hard_negative = l2_normalize(hard_negative)
        hard_logits = ops.matmul(anchor, ops.transpose(hard_negative)) / temperature
        hard_logits += hard_negative_weight * ops.one_hot(
            own, ops.shape(hard_negative)[0], dtype="float32"
        )
        logits = ops.concatenate([logits, hard_logits], axis=1)
    return ops.mean(
        ops.logsumexp(logits, axis=1)
        - ops.squeeze(ops.take_along_axis(logits, own[:, None], axis=1), axis=1)
    )
