"""SimCSE's own objective: the contrastive loss."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from simcse_tf.distributed import collectives
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.base import Objective, Targets, Trainable
from simcse_tf.objectives.defaults import (
    HARD_NEGATIVE_WEIGHT,
    MASK_DUPLICATES,
    TEMPERATURE,
)
from simcse_tf.objectives.false_negatives import (
    absent,
    duplicates,
    near_positive,
    text_ids,
)
from simcse_tf.objectives.negatives import Negatives
from simcse_tf.objectives.text_embeddings import TextEmbeddings
from simcse_tf.objectives.views import Views

_TEXT_IDS, _GUIDE = "text_ids", "guide"


@keras.saving.register_keras_serializable("simcse_tf")
class Contrastive(Objective):
    """Cross-entropy of picking one's own positive among the batch's candidates.

    Candidates come from all replicas: see `contrastive_loss` for the formula. A hard
    negative that a row lacks (an empty string) is none.

    Args:
        temperature: float. Divides every cosine. Defaults to `0.05`.
        hard_negative_weight: float. Logarithmic weight of each of an anchor's own
            hard negatives in the denominator. Defaults to `0.0`.
        same_mask: bool. Whether the views of a step share one dropout mask: the
            paper's "fixed 0.1", which has nothing to learn from. Defaults to
            `False`.
        mask_duplicates: bool. Whether an anchor's sum leaves out the candidates, of
            any replica, whose text is the anchor's or its positive's. Its own
            positive stays. Texts are compared byte by byte. Defaults to `True`.
        false_negative_margin: Optional float. An anchor's sum leaves out the
            candidates, its own hard negatives too, whose cosine with it exceeds its
            positive's less the margin. Defaults to `None`: none.
        guide: Optional `TextEmbeddings` of the training texts, another model's, whose
            cosines the margin is for. Defaults to `None`: the cosines of the step
            itself. Nothing learns from them.
        negatives: Sequence of `Negatives`, such as a `MomentumQueue`, that join those
            of the batch. The margin does not concern them. Defaults to `()`.

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
        mask_duplicates: bool = MASK_DUPLICATES,
        false_negative_margin: float | None = None,
        guide: TextEmbeddings | None = None,
        negatives: Sequence[Negatives] = (),
    ):
        self.temperature = temperature
        self.hard_negative_weight = hard_negative_weight
        self.same_mask = same_mask
        self.mask_duplicates = mask_duplicates
        self.false_negative_margin = false_negative_margin
        self.guide = guide
        self.negatives = list(negatives)

    def build(self, model: Trainable) -> None:
        for negatives in self.negatives:
            negatives.build(model)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        return [layer for negatives in self.negatives for layer in negatives.layers]

    def targets(self, texts: Sequence[tf.Tensor], scores: tf.Tensor | None) -> Targets:
        targets = {}
        # Also hard negatives that are not there are known by their text.
        if self.mask_duplicates or len(texts) > 2:
            targets[_TEXT_IDS] = text_ids(texts)
        if self.guide is not None:
            targets[_GUIDE] = self.guide.of_batch(texts)
        return targets

    def embedding_loss(self, embeddings: tf.Tensor, targets: Targets) -> tf.Tensor:
        anchor, *others = tf.unstack(embeddings)
        candidates = [collectives.gather(each) for each in others]
        offset = collectives.replica_offset(tf.shape(anchor)[0])
        own, ids = offset + tf.range(tf.shape(anchor)[0]), self._compared_ids(targets)
        return contrastive_loss(
            anchor,
            candidates[0],
            candidates[1:],
            temperature=self.temperature,
            hard_negative_weight=self.hard_negative_weight,
            offset=offset,
            left_out=self._left_out(anchor, candidates, targets, own),
            negatives=[
                negatives.of_batch(candidates[0], own, ids)
                for negatives in self.negatives
            ],
        )

    def after_update(self, views: Views, targets: Targets, rows: Any) -> None:
        for negatives in self.negatives:
            negatives.after_update(views, rows, self._compared_ids(targets))

    def _compared_ids(self, targets: Targets) -> tf.Tensor | None:
        return targets.get(_TEXT_IDS) if self.mask_duplicates else None

    def _left_out(
        self,
        anchor: tf.Tensor,
        candidates: Sequence[tf.Tensor],
        targets: Targets,
        own: tf.Tensor,
    ) -> tf.Tensor | None:
        reasons = []
        if _TEXT_IDS in targets:
            ids = targets[_TEXT_IDS]
            all_ids = collectives.gather(ids)
            reasons.append(absent(all_ids))
            if self.mask_duplicates:
                reasons.append(duplicates(ids, all_ids))
        if self.false_negative_margin is not None:
            if _GUIDE in targets:
                anchor, *others = tf.unstack(targets[_GUIDE], axis=1)
                # The positive of a single sentence is the sentence itself.
                candidates = [collectives.gather(x) for x in others or [anchor]]
            margin = self.false_negative_margin
            reasons.append(near_positive(anchor, candidates, margin, own))
        return functools.reduce(tf.logical_or, reasons) if reasons else None

    def get_config(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "hard_negative_weight": self.hard_negative_weight,
            "same_mask": self.same_mask,
            "mask_duplicates": self.mask_duplicates,
            "false_negative_margin": self.false_negative_margin,
            "guide": self.guide and self.guide.get_config(),
            "negatives": [
                keras.saving.serialize_keras_object(each) for each in self.negatives
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        guide, negatives = config.get("guide"), config.get("negatives", [])
        parts = {
            "guide": guide and TextEmbeddings(**guide),
            "negatives": [*map(keras.saving.deserialize_keras_object, negatives)],
        }
        # A file that does not know the key is of a version that masked nothing.
        return cls(**{"mask_duplicates": False, **config, **parts})


def contrastive_loss(
    anchor: Any,
    positive: Any,
    hard_negative: Any = None,
    *,
    temperature: float = TEMPERATURE,
    hard_negative_weight: float = HARD_NEGATIVE_WEIGHT,
    offset: Any = 0,
    left_out: Any = None,
    negatives: Sequence[tuple[Any, Any]] = (),
) -> Any:
    """SimCSE's loss: cross-entropy of picking one's own positive in the batch.

    With cosine similarity `sim`, temperature `t` and hard-negative weight `a`,
    anchor `i` costs

    ```
    -log( e^(sim(z_i, z+_i)/t) /
          sum_j [ e^(sim(z_i, z+_j)/t)
                  + sum_k e^(a*[i=j]) * e^(sim(z_i, z-_jk)/t) ] )
    ```

    where `k` counts the hard negatives of a row, of which there may be none. All
    hard negatives of the batch are in every anchor's sum. The computation is in
    float32 whatever the embeddings' precision.

    Args:
        anchor: Tensor of shape `(n, dim)`. Embeddings z, of any length.
        positive: Tensor of shape `(m, dim)`, `m >= n`. Embeddings z+; those that
            are not an anchor's own are its in-batch negatives.
        hard_negative: Optional tensor of shape `(m, dim)`, or a list of them.
            Embeddings z-.
        temperature: float. Divides every cosine. Defaults to `0.05`.
        hard_negative_weight: float. Logarithmic weight of each of an anchor's own
            hard negatives in the denominator. Defaults to `0.0`.
        offset: int or scalar int tensor. Anchor `i`'s own positive and hard
            negatives stand in row `offset + i`; it is not 0 where the candidates
            were gathered from several replicas. Defaults to `0`.
        left_out: Optional bool tensor that broadcasts to `(n, candidates)`: the
            positives, then the hard negatives of each tensor. Which candidates an
            anchor's sum leaves out; its own positive always stays. Defaults to
            `None`: none.
        negatives: Sequence of tuples of further negatives, that are no anchor's own: a
            tensor of shape `(k, dim)`, and a bool tensor that broadcasts to `(n, k)`,
            which of them an anchor's sum leaves out. Defaults to `()`: none.

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
    anchor = l2_normalize(anchor)
    own = offset + ops.arange(ops.shape(anchor)[0])

    def cosines(candidates: Any) -> Any:
        return ops.matmul(anchor, ops.transpose(l2_normalize(candidates)))

    def is_own(candidates: Any) -> Any:
        return ops.one_hot(own, ops.shape(candidates)[0], dtype="float32")

    logits = [cosines(positive) / temperature]
    for each in _listed(hard_negative):
        weight = hard_negative_weight * is_own(each)
        logits.append(cosines(each) / temperature + weight)
    logits = ops.concatenate(logits, axis=1)
    if left_out is not None:
        stays = ops.one_hot(own, ops.shape(logits)[1], dtype="bool")
        logits = ops.where(left_out & ~stays, -math.inf, logits)
    further = [
        ops.where(without, -math.inf, cosines(each) / temperature)
        for each, without in negatives
    ]
    logits = ops.concatenate([logits, *further], axis=1)
    return ops.mean(
        ops.logsumexp(logits, axis=1)
        - ops.squeeze(ops.take_along_axis(logits, own[:, None], axis=1), axis=1)
    )


def _listed(hard_negative: Any) -> Sequence[Any]:
    if hard_negative is None:
        return []
    return hard_negative if isinstance(hard_negative, list | tuple) else [hard_negative]
