"""The gradient of a loss over a whole batch: at once, or in micro-batches."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf


class Step(NamedTuple):
    """What a training step computes, in terms of micro-batches.

    Attributes:
        encode: Function of a micro-batch's index that returns its embeddings, a
            float32 tensor of shape `(columns, rows, dim)`; the same whenever it is
            called again.
        loss: Function of the whole batch's embeddings that returns a scalar.
        auxiliary: Function of a micro-batch's index that returns a scalar; the
            micro-batches' values are added to the loss.
        scale: Linear function of a scalar, applied before differentiating.
        variables: What to differentiate with respect to.
    """

    encode: Callable[[Any], tf.Tensor]
    loss: Callable[[tf.Tensor], tf.Tensor]
    auxiliary: Callable[[Any], tf.Tensor]
    scale: Callable[[tf.Tensor], tf.Tensor]
    variables: Sequence[Any]


Result = tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]


def direct_gradients(step: Step) -> Result:
    """Differentiates the batch as one micro-batch.

    Args:
        step: A `Step` of one micro-batch, index 0.

    Returns:
        The loss, the auxiliary loss, and the gradients of their scaled sum.
    """
    with tf.GradientTape() as tape:
        loss, auxiliary = step.loss(step.encode(0)), step.auxiliary(0)
        scaled = step.scale(loss + auxiliary)
    return loss, auxiliary, _dense(tape.gradient(scaled, step.variables))


def cached_gradients(step: Step, micro_batches: tf.Tensor) -> Result:
    """Differentiates the batch in the memory of one micro-batch: gradient caching.

    Every micro-batch is encoded without keeping activations; the loss of all
    embeddings gives each embedding's gradient; then every micro-batch is encoded
    again, and its embeddings' gradients go on into the variables.

    Args:
        step: A `Step`.
        micro_batches: Scalar int tensor, how many there are.

    Returns:
        As `direct_gradients`.

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
            auxiliary = step.auxiliary(index)
            surrogate = tf.reduce_sum(step.encode(index) * cache[index])
            scaled = step.scale(surrogate + auxiliary)
        gradients = _dense(tape.gradient(scaled, step.variables))
        loss, sums = total
        return loss + auxiliary, [s + g for s, g in zip(sums, gradients, strict=True)]

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in step.variables]
    auxiliary, gradients = tf.foldl(
        add, indices, (tf.zeros(()), zeros), parallel_iterations=1
    )
    return loss, auxiliary, gradients


def _joined(embeddings: tf.Tensor) -> tf.Tensor:
    """`(micro_batches, columns, rows, dim)` to `(columns, all rows, dim)`."""
    by_column = tf.transpose(embeddings, (1, 0, 2, 3))
    columns, _, _, dim = tf.unstack(tf.shape(by_column))
    return tf.reshape(by_column, (columns, -1, dim))


def _dense(gradients: list[Any]) -> list[tf.Tensor]:
    # An embedding table's gradient comes in pieces that repeat rows; clipping needs
    # the norm of their sum.
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
