"""Batches as rows of tokens: dense layers then skip the padding.

A padded batch has a cell for each sentence and position, `(rows, length)`. An unpadded
one has a row for each token. Attention needs the first form, all else the second.
"""

from typing import Any

import tensorflow as tf

from simcse_tf.encoders.base import Features

# An unpadded batch has a multiple of this many tokens, because a kernel is prepared
# for every new size. So has a padded one where that takes long; up to so many tokens a
# smaller multiple will do.
_TOKENS_MULTIPLE = 64
_FEW_TOKENS, _FEWER_MULTIPLE = 256, 16


class Packing:
    """A batch's tokens as rows, and the lookups between tokens and cells.

    Attributes:
        token_ids: int32 `(tokens,)`.
        positions: int32 `(tokens,)`. Each token's position in its sentence.
        mask: int32 `(rows, length)`, 1 for a token and 0 for padding.
        pad_indices: int32 `(rows, length)`. The token that fills each cell.
        sentences: int32 scalar. How many of the first rows are the batch's.

    Args:
        unpad_indices: int32 `(tokens,)`. The cell that holds each token.
        heads: int. Heads of the attention. The other arguments are the attributes.

    Example:

    ```python
    packing = unpadded(features, heads=12)
    packing.pad(tokens)  # from `(tokens, dim)` to `(rows, length, dim)`
    ```
    """

    def __init__(
        self,
        token_ids: tf.Tensor,
        mask: tf.Tensor,
        pad_indices: tf.Tensor,
        unpad_indices: tf.Tensor,
        sentences: tf.Tensor,
        heads: int,
    ):
        self.token_ids, self.mask, self.sentences = token_ids, mask, sentences
        self.pad_indices, self._unpad_indices = pad_indices, unpad_indices
        self._heads = heads
        self._rows, self._length = tf.unstack(tf.shape(pad_indices))
        self.positions = unpad_indices % self._length
        # With heads, cells are `(rows, heads, length)` and tokens `(tokens, heads)`.
        head = tf.range(heads)
        row = unpad_indices // self._length
        self._unpad_head_indices = (row[:, None] * heads + head) * self._length
        self._unpad_head_indices += self.positions[:, None]
        self._pad_head_indices = pad_indices[:, None, :] * heads + head[:, None]
        self._split_indices: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}

    def of_positions(self, table: tf.Tensor) -> tf.Tensor:
        """The row of a table for each token's position in its sentence."""
        return tf.gather(table, self.positions)

    def sentence_starts(self) -> tf.Tensor:
        """The first token of each token's sentence, int32 `(tokens,)`."""
        return tf.gather(self.pad_indices[:, 0], self._unpad_indices // self._length)

    def first_tokens(self, hidden_states: tf.Tensor) -> tf.Tensor:
        """From `(tokens, dim)` to `(rows, dim)`: each sentence's first token."""
        return tf.gather(hidden_states, self.pad_indices[:, 0])

    def pad(self, hidden_states: tf.Tensor) -> tf.Tensor:
        """From `(tokens, dim)` to `(rows, length, dim)`."""
        return _lookup(hidden_states, self.pad_indices, self._unpad_indices)

    def split_heads(self, projections: tf.Tensor, parts: int) -> list[tf.Tensor]:
        """From `(tokens, parts * dim)` to `parts` of `(rows, heads, length, size)`."""
        size = projections.shape[1] // (parts * self._heads)
        # Every layer uses the same indices.
        if parts not in self._split_indices:
            self._split_indices[parts] = self._make_split_indices(parts)
        there, back = self._split_indices[parts]
        return tf.unstack(_lookup(tf.reshape(projections, [-1, size]), there, back))

    def merge_heads(self, mixed: tf.Tensor) -> tf.Tensor:
        """From `(rows, heads, length, size)` to `(tokens, dim)`."""
        size = mixed.shape[3]
        rows = tf.reshape(mixed, [-1, size])
        tokens = _lookup(rows, self._unpad_head_indices, self._pad_head_indices)
        return tf.reshape(tokens, [-1, self._heads * size])

    def _make_split_indices(self, parts: int) -> tuple[tf.Tensor, tf.Tensor]:
        part = tf.range(parts)
        token = self.pad_indices[:, None, :] * parts
        head = tf.range(self._heads)[:, None]
        there = (token + part[:, None, None, None]) * self._heads + head
        cells = self._rows * self._heads * self._length
        return there, self._unpad_head_indices[:, None, :] + part[:, None] * cells


def padded(features: Features, heads: int, few_sizes: bool = False) -> Packing:
    """Counts padding as tokens: cheap for sentences of similar length.

    Args:
        features: An encoder's inputs.
        heads: int. Heads of the attention.
        few_sizes: bool. Whether to add tokens that nothing reads, so that many batches
            have the same number of them. Defaults to `False`.

    Example:

    ```python
    padded(features, heads=12).token_ids  # n * length ids
    ```
    """
    shape = tf.shape(features["token_ids"])
    token_ids = tf.reshape(features["token_ids"], [-1])
    cells = unpad_indices = tf.range(shape[0] * shape[1])
    if few_sizes:
        count = tf.size(cells)
        fill = -count % tf.where(count > _FEW_TOKENS, _TOKENS_MULTIPLE, _FEWER_MULTIPLE)
        token_ids, unpad_indices = (
            tf.pad(each, [[0, fill]]) for each in (token_ids, cells)
        )
    return Packing(
        token_ids,
        features["padding_mask"],
        tf.reshape(cells, shape),
        unpad_indices,
        shape[0],
        heads,
    )


def unpadded(features: Features, heads: int) -> Packing:
    """Keeps tokens only, filled up to a multiple with those of one more sentence.

    No sentence's loss depends on that one. All padding cells are copies of its first
    token. So the gradient of padding is zero, and both ways between tokens and cells
    are lookups whose gradient is the way back.

    Args:
        features: An encoder's inputs.
        heads: int. Heads of the attention.

    Example:

    ```python
    unpadded(features, heads=12).token_ids  # a multiple of 64 ids
    ```
    """
    rows, length = tf.unstack(tf.shape(features["token_ids"]))
    cells = rows * length
    unpad_indices = tf.where(tf.reshape(features["padding_mask"], [-1]) > 0)[:, 0]
    unpad_indices = tf.cast(unpad_indices, tf.int32)
    count = tf.size(unpad_indices)
    fill = _TOKENS_MULTIPLE - count % _TOKENS_MULTIPLE
    token_ids = tf.gather(tf.reshape(features["token_ids"], [-1]), unpad_indices)
    pad_indices = tf.tensor_scatter_nd_update(
        tf.fill([cells + length], count), unpad_indices[:, None], tf.range(count)
    )
    mask = tf.pad(features["padding_mask"], [[0, 1], [0, 0]])
    # The added sentence sees itself: a softmax over nothing is not a number.
    last = tf.one_hot(rows, rows + 1, dtype=mask.dtype)[:, None]
    mask = tf.maximum(mask, last * tf.one_hot(0, length, dtype=mask.dtype))
    return Packing(
        tf.pad(token_ids, [[0, fill]]),
        mask,
        tf.reshape(pad_indices, [rows + 1, length]),
        tf.concat([unpad_indices, tf.fill([fill], cells)], axis=0),
        rows,
        heads,
    )


def _lookup(rows: tf.Tensor, there: tf.Tensor, back: tf.Tensor) -> tf.Tensor:
    """Rows of a matrix in another arrangement, whose gradient is a lookup too."""

    @tf.custom_gradient
    def look_up(rows: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            width = rows.shape[1]
            found = tf.gather(tf.reshape(upstream, [-1, width]), back)
            return tf.reshape(found, [-1, width])

        return tf.gather(rows, there), gradient

    return look_up(rows)
