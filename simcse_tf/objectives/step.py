"""What a training step computes, and its gradient over the whole batch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf


class Step(NamedTuple):
    """What a training step computes, in terms of micro-batches.

    Attributes:
        encode: Function of a micro-batch's index that returns its embeddings, a
            float32 tensor of shape `(views, rows, dim)`. It returns the same ones
            at every call.
        loss: Function of the whole batch's embeddings that returns a scalar.
        token_loss: Function of a micro-batch's index that returns a scalar. The
            micro-batches' values are added to the loss.
        scale: Linear function of a scalar, applied before differentiating.
        variables: What to differentiate with respect to.
    """

    encode: Callable[[Any], tf.Tensor]
    loss: Callable[[tf.Tensor], tf.Tensor]
    token_loss: Callable[[Any], tf.Tensor]
    scale: Callable[[tf.Tensor], tf.Tensor]
    variables: Sequence[Any]


Result = tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]


def direct_gradients(step: Step) -> Result:
    """Differentiates the batch as one micro-batch.

    Args:
        step: A `Step` of one micro-batch, index 0.

    Returns:
        The loss, the token loss, and the gradients of their scaled sum.

    Example:

    ```python
    loss, token_loss, gradients = direct_gradients(step)
    ```
    """
    with tf.GradientTape() as tape:
        loss, token_loss = step.loss(step.encode(0)), step.token_loss(0)
        scaled = step.scale(loss + token_loss)
    return loss, token_loss, dense_gradients(tape.gradient(scaled, step.variables))


def dense_gradients(gradients: list[Any]) -> list[tf.Tensor]:
    """Gradients as dense tensors.

    Example:

    ```python
    dense_gradients(tape.gradient(loss, variables))
    ```
    """
    # An embedding table's gradient comes in pieces that repeat rows; clipping needs
    # the norm of their sum.
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
