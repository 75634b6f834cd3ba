"""Which candidates do not count as an anchor's negatives."""

from collections.abc import Sequence

import tensorflow as tf

from simcse_tf.encoders.ops import l2_normalize

ABSENT = 0
# Less than a uint64's, as an int64 holds it, and with room for `ABSENT`.
_BUCKETS = 2**63 - 2


def text_ids(columns: Sequence[tf.Tensor]) -> tf.Tensor:
    """Numbers that are equal where texts are.

    Args:
        columns: String tensors of shape `(n,)`: anchors, positives, hard negatives.

    Returns:
        int64 tensor of shape `(n, columns)`, 64-bit fingerprints. An empty hard
        negative is one that its row lacks, and has 0.

    Example:

    ```python
    text_ids([tf.constant(["a", "b"])])  # two different numbers, shape (2, 1)
    ```
    """
    ids = [tf.strings.to_hash_bucket_fast(each, _BUCKETS) + 1 for each in columns]
    there = [tf.strings.length(each) > 0 for each in columns[2:]]
    hard = [tf.where(*each, ABSENT) for each in zip(there, ids[2:], strict=True)]
    return tf.stack([*ids[:2], *hard], axis=1)


def absent(all_ids: tf.Tensor) -> tf.Tensor:
    """Which candidates are hard negatives that their rows lack.

    Args:
        all_ids: int64 tensor of shape `(m, columns)`; see `text_ids`.

    Returns:
        bool tensor of shape `(1, candidates)`: the `m` positives, then the `m` hard
        negatives of each column.

    Example:

    ```python
    absent(tf.constant([[1, 2, 3], [4, 5, 0]], tf.int64))  # [[F, F, F, T]]
    ```
    """
    return _candidates(all_ids)[None] == ABSENT


def duplicates(ids: tf.Tensor, all_ids: tf.Tensor) -> tf.Tensor:
    """Which candidates have the text of an anchor or of its positive.

    Args:
        ids: int64 tensor of shape `(n, columns)`; see `text_ids`. The anchors' rows.
        all_ids: int64 tensor of shape `(m, columns)`. The candidates' rows.

    Returns:
        bool tensor of shape `(n, candidates)`, in the order of `absent`. An anchor's
        own positive is among them.

    Example:

    ```python
    ids = tf.constant([[1, 2], [3, 2]], tf.int64)
    duplicates(ids, ids)  # all True: both rows have the same positive
    ```
    """
    candidates = _candidates(all_ids)
    anchor, positive = tf.split(pair_ids(ids), 2, axis=1)
    return (candidates == anchor) | (candidates == positive)


def pair_ids(ids: tf.Tensor) -> tf.Tensor:
    """The ids of anchors and positives; a single sentence is both.

    Args:
        ids: int64 tensor of shape `(n, columns)`; see `text_ids`.

    Returns:
        int64 tensor of shape `(n, 2)`.

    Example:

    ```python
    pair_ids(tf.constant([[7], [8]], tf.int64))  # [[7, 7], [8, 8]]
    ```
    """
    return tf.concat([ids[:, :1], ids[:, :2][:, -1:]], axis=1)


def near_positive(
    anchor: tf.Tensor, candidates: Sequence[tf.Tensor], margin: float, own: tf.Tensor
) -> tf.Tensor:
    """Which candidates are about as similar to an anchor as its positive is.

    Those are the ones whose cosine with the anchor exceeds the positive's less the
    margin. No gradient flows.

    Args:
        anchor: Tensor of shape `(n, dim)`.
        candidates: Tensors of shape `(m, dim)`: positives, then hard negatives.
        margin: float.
        own: int tensor of shape `(n,)`. The rows of the anchors' own positives.

    Returns:
        bool tensor of shape `(n, candidates)`, in the order of `absent`.

    Example:

    ```python
    near_positive(anchors, [positives], margin=0.05, own=tf.range(len(anchors)))
    ```

    Reference:
        - [Solatorio 2024](https://arxiv.org/abs/2402.16829), section 3, with the
          margin of [Moreira et al. 2024](https://arxiv.org/abs/2407.15831), section 3
    """
    anchor, *others = (tf.stop_gradient(l2_normalize(x)) for x in (anchor, *candidates))
    cosines = tf.matmul(anchor, tf.concat(others, axis=0), transpose_b=True)
    positive = tf.gather(cosines, own, axis=1, batch_dims=1)[:, None]
    return cosines > positive - margin


def _candidates(all_ids: tf.Tensor) -> tf.Tensor:
    """The ids of positives, then of the hard negatives of each column."""
    first = min(1, all_ids.shape[1] - 1)
    return tf.reshape(tf.transpose(all_ids[:, first:]), [-1])
