"""The contrastive objective, as a pure function of embeddings."""

from typing import Any

from keras import ops

# Below this squared length a vector counts as zero: its cosine is then 0 and its
# gradient finite, as `torch.nn.functional.cosine_similarity` has it.
_SMALLEST_SQUARED_NORM = 1e-16


def l2_normalize(embeddings: Any) -> Any:
    """Scales each row to Euclidean length 1, in float32.

    Args:
        embeddings: Floating tensor of shape `(n, dim)`, any precision.

    Returns:
        float32 tensor of shape `(n, dim)`; a zero row stays zero.
    """
    embeddings = ops.cast(embeddings, "float32")
    squared_norm = ops.sum(ops.square(embeddings), axis=-1, keepdims=True)
    return embeddings / ops.sqrt(ops.maximum(squared_norm, _SMALLEST_SQUARED_NORM))


def contrastive_loss(
    anchor: Any,
    positive: Any,
    hard_negative: Any = None,
    *,
    temperature: float = 0.05,
    hard_negative_weight: float = 0.0,
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
