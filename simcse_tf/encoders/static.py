"""Batches as grids of cells: shapes that follow from the batch's shape alone.

XLA compiles such a forward pass once a shape. `packing.py` leaves the padding out, with
shapes that depend on the data.
"""

import tensorflow as tf

from simcse_tf.encoders.base import Features
from simcse_tf.encoders.packing import Packing


class Grid(Packing):
    """A padded batch, cell after cell. Padding counts as tokens; nothing is looked up.

    Args:
        features: An encoder's inputs.
        heads: int. Heads of the attention.

    Example:

    ```python
    Grid(features, heads=12).token_ids  # n * length ids
    ```
    """

    def __init__(self, features: Features, heads: int):
        self.token_ids = tf.reshape(features["token_ids"], [-1])
        self.mask = features["padding_mask"]
        self.sentences, self._length = tf.unstack(tf.shape(features["token_ids"]))
        self._heads = heads
        self._cells = tf.range(self.sentences * self._length)
        self.positions = self._cells % self._length

    def sentence_starts(self) -> tf.Tensor:
        return self._cells - self.positions

    def of_positions(self, table: tf.Tensor) -> tf.Tensor:
        width = table.shape[1]
        rows = tf.broadcast_to(
            table[None, : self._length], [self.sentences, self._length, width]
        )
        return tf.reshape(rows, [-1, width])

    def first_tokens(self, hidden_states: tf.Tensor) -> tf.Tensor:
        return self.pad(hidden_states)[:, 0]

    def pad(self, hidden_states: tf.Tensor) -> tf.Tensor:
        width = hidden_states.shape[1]
        return tf.reshape(hidden_states, [self.sentences, self._length, width])

    def split_heads(self, projections: tf.Tensor, parts: int) -> list[tf.Tensor]:
        size = projections.shape[1] // (parts * self._heads)
        shape = [self.sentences, self._length, parts, self._heads, size]
        split = tf.transpose(tf.reshape(projections, shape), [2, 0, 3, 1, 4])
        return tf.unstack(split, parts)

    def merge_heads(self, mixed: tf.Tensor) -> tf.Tensor:
        width = self._heads * mixed.shape[3]
        return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, width])
