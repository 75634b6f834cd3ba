"""MixCSE's negatives: mixtures of two sentences' positives."""

from typing import Any

import keras
import tensorflow as tf

from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.negatives import Negatives


@keras.saving.register_keras_serializable("simcse_tf")
class MixedNegatives(Negatives):
    """Each positive of the batch mixed with the next one, at unit length.

    Mixture `k` is `share * z+_k + (1 - share) * z+_(k+1)`: hard for anchor `k`, as it
    holds some of its own positive. For anchor `k + 1`, of whose positive it is mostly
    made, it is no negative. No gradient flows through mixtures. They do not know of
    texts that are equal.

    Args:
        share: float. How much of its own positive an anchor's mixture holds, `lambda`
            in the paper. Defaults to `0.2`, the paper's.

    Example:

    ```python
    model.compile("adam", objective=Contrastive(negatives=[MixedNegatives(0.2)]))
    ```

    Reference:
        - [Zhang et al. 2022](https://doi.org/10.1609/aaai.v36i10.21428), "Unsupervised
          Sentence Representation via Contrastive Learning with Mixing Negatives"
    """

    def __init__(self, share: float = 0.2):
        self.share = share

    def of_batch(
        self, positives: tf.Tensor, own: tf.Tensor, ids: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        positives = tf.stop_gradient(l2_normalize(positives))
        following = tf.roll(positives, shift=-1, axis=0)
        mixed = self.share * positives + (1.0 - self.share) * following
        count = tf.shape(positives)[0]
        before = tf.math.floormod(own - 1, count)
        return l2_normalize(mixed), before[:, None] == tf.range(count)[None]

    def get_config(self) -> dict[str, Any]:
        return {"share": self.share}
