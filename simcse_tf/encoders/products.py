"""The matrix products of a transformer's layer, in the model's floating type."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from simcse_tf.encoders.ops import activate, dense


class Products:
    """What a layer does with its matrices, and with the table of the tokens.

    A subclass may keep weights in another form; it alone reads them.

    Example:

    ```python
    Products().dense(tf.ones([2, 3]), (tf.ones([3, 4]), tf.zeros([4])))  # (2, 4)
    ```
    """

    # Whether a product of a new number of rows takes long to prepare.
    few_sizes = False

    def rows(self, table: Any, token_ids: tf.Tensor) -> tf.Tensor:
        """The rows of a table, `(tokens, dim)`."""
        return tf.gather(table, token_ids)

    def columns(self, weights: Any, start: int, stop: int | None = None) -> Any:
        """The dense layer that computes some of the outputs alone."""
        kernel, bias = weights
        return kernel[:, start:stop], bias[start:stop]

    def dense(self, inputs: tf.Tensor, weights: Any) -> tf.Tensor:
        """A dense layer on rows."""
        return dense(inputs, weights)

    def added(
        self,
        inputs: tf.Tensor,
        weights: Any,
        residual: tf.Tensor,
        drop: Callable[[tf.Tensor], tf.Tensor],
    ) -> tf.Tensor:
        """A dense layer, dropout, and a residual that is added."""
        return drop(self.dense(inputs, weights)) + residual

    def activated(
        self,
        inputs: tf.Tensor,
        weights: Any,
        activation: Callable[[Any], Any],
        fused: bool = False,
    ) -> tf.Tensor:
        """A dense layer with an activation, for another product alone.

        `fused` is as for `activate`.
        """
        return activate(self.dense(inputs, weights), activation, fused)
