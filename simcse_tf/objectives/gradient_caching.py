"""Gradient caching: the step of a large batch in the memory of a micro-batch."""

from typing import Any

import tensorflow as tf

from simcse_tf.objectives.step import Result, Step, dense_gradients


def cached_gradients(step: Step, micro_batches: tf.Tensor) -> Result:
    """Differentiates the batch in the memory of one micro-batch: gradient caching.

    First every micro-batch is encoded without keeping activations. Then the loss of
    all embeddings gives each embedding's gradient. Finally every micro-batch is
    encoded again, and its embeddings' gradients flow into the variables.

    Args:
        step: A `Step`.
        micro_batches: Scalar int tensor, how many there are.

    Returns:
        As `direct_gradients`.

    Example:

    ```python
    loss, token_loss, gradients = cached_gradients(step, tf.constant(4))
    ```

    Reference:
        - [Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under
          Memory Limited Setup"](https://arxiv.org/abs/2101.06983), section 3.2
    """
    indices = tf.range(micro_batches)
    # One at a time: side by side they would need the memory of the whole batch.
    embeddings = tf.map_fn(
        step.encode, indices, parallel_iterations=1, fn_output_signature=tf.float32
    )
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = step.loss(_joined(embeddings))
    cache = tape.gradient(loss, embeddings)

    def add(total: tuple[Any, Any], index: tf.Tensor) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            token_loss = step.token_loss(index)
            surrogate = tf.reduce_sum(step.encode(index) * cache[index])
            scaled = step.scale(surrogate + token_loss)
        gradients = dense_gradients(tape.gradient(scaled, step.variables))
        loss, sums = total
        return loss + token_loss, [s + g for s, g in zip(sums, gradients, strict=True)]

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in step.variables]
    token_loss, gradients = tf.foldl(
        add, indices, (tf.zeros(()), zeros), parallel_iterations=1
    )
    return loss, token_loss, gradients


def _joined(embeddings: tf.Tensor) -> tf.Tensor:
    """`(micro_batches, views, rows, dim)` to `(views, all rows, dim)`."""
    by_view = tf.transpose(embeddings, (1, 0, 2, 3))
    views, _, _, dim = tf.unstack(tf.shape(by_view))
    return tf.reshape(by_view, (views, -1, dim))
