"""The views of a batch: the sentences that a training step encodes.

Unsupervised SimCSE encodes each sentence twice. Supervised SimCSE encodes anchors,
positives and hard negatives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from simcse_tf.encoders.base import Features
from simcse_tf.encoders.embedder import Embedder

_COLUMNS = ("anchor", "positive", "hard_negative")

# Tensors of shape `(views, n, length)` by the name of the backbone's input.
Views = dict[str, tf.Tensor]


def column_names(columns: int) -> list[str]:
    """The names of a batch's columns of sentences.

    Args:
        columns: int. How many there are: 1 of anchors, 2 with positives, more with
            hard negatives.

    Example:

    ```python
    column_names(4)  # ["anchor", "positive", "hard_negative", "hard_negative_2"]
    ```
    """
    others = (f"hard_negative_{number}" for number in range(2, columns - 1))
    return [*_COLUMNS[:columns], *others]


def stack_views(batch: Mapping[str, Features]) -> Views:
    """Stacks the columns of a batch, padded to one length.

    Args:
        batch: Dictionary from a name of `column_names` to the backbone's inputs, int32
            tensors of shape `(n, length)`. `SimCSE.prepare` makes it. What else is in
            it is left out.

    Returns:
        Dictionary of int32 tensors of shape `(views, n, longest length)`. There are
        at least two views: a single column is there twice.

    Example:

    ```python
    stack_views(model.prepare(["A man plays.", "Two dogs run."]))["token_ids"].shape
    # (2, 2, 6)
    ```
    """
    columns = [batch[name] for name in column_names(len(batch)) if name in batch]
    if len(columns) == 1:
        # The same sentences again: dropout gives them another mask.
        columns *= 2
    lengths = [tf.shape(column["token_ids"])[1] for column in columns]
    longest = tf.reduce_max(tf.stack(lengths))
    return {
        name: tf.stack(
            [
                tf.pad(column[name], [[0, 0], [0, longest - length]])
                for column, length in zip(columns, lengths, strict=True)
            ]
        )
        for name in columns[0]
    }


def micro_batch(views: Any, index: Any, rows: Any) -> Any:
    """The examples of a micro-batch.

    Args:
        views: Nested structure of tensors of shape `(views, n, ...)`.
        index: int or int scalar. Counted from 0.
        rows: int or int scalar. Examples of a micro-batch.

    Example:

    ```python
    micro_batch(tf.ones([2, 8, 5]), index=1, rows=4).shape  # (2, 4, 5)
    ```
    """

    def part(tensor: tf.Tensor) -> tf.Tensor:
        # With sizes and not ends, as XLA needs to know the part's shape.
        views, _, *others = tf.unstack(tf.shape(tensor))
        begin = tf.stack([0, index * rows, *[0] * len(others)])
        return tf.slice(tensor, begin, tf.stack([views, rows, *others]))

    return tf.nest.map_structure(part, views)


def as_one_batch(views: Views) -> Views:
    """The views below each other: tensors of shape `(views * n, length)`.

    Example:

    ```python
    as_one_batch({"token_ids": tf.ones([2, 8, 5])})["token_ids"].shape  # (16, 5)
    ```
    """
    return {
        name: tf.reshape(tensor, [-1, tf.shape(tensor)[-1]])
        for name, tensor in views.items()
    }


def embed_views(
    embedders: Sequence[Embedder], views: Views, seed: tf.Tensor, same_mask: bool
) -> tf.Tensor:
    """Encodes every view in training mode, under dropout masks of its own.

    Args:
        embedders: One for each view. With one encoder they are all the same, and all
            views go through it together. With two, the second encodes positives and
            hard negatives.
        views: See `stack_views`.
        seed: int32 tensor of shape `(2,)`, from which all masks follow.
        same_mask: bool. Whether all views get the same masks.

    Returns:
        float32 tensor of shape `(views, n, dim)`, l2-normalized.

    Example:

    ```python
    embed_views([embedder] * 2, views, tf.constant([1, 2]), same_mask=False)
    ```
    """
    if len(set(embedders)) == 1 and not same_mask:
        embeddings = embedders[0].embed(as_one_batch(views), seed=seed)
        return tf.reshape(embeddings, [len(embedders), -1, embeddings.shape[-1]])
    embeddings = []
    for view, embedder in enumerate(embedders):
        features = {name: tensor[view] for name, tensor in views.items()}
        view_seed = tf.random.fold_in(seed, 0 if same_mask else view)
        embeddings.append(embedder.embed(features, seed=view_seed))
    return tf.stack(embeddings)
