"""The best segmentation of words into pieces, as TensorFlow operations.

A word's best segmentation up to a place is the best one up to an earlier place and one
piece. All words take this step together, character after character: a window of as
many columns as the longest piece has characters holds, for each place where a piece
may have begun, the score up to there and how far into the trie the characters since
have led. So the work is linear in the text's length, and so is the memory.

A long word would make that a long loop. It is cut into blocks, and a first pass finds
for each block what it makes of any window at its beginning. That is a matrix for which
maximum and sum take the place of sum and product. The blocks' windows follow from the
matrices, and the second pass runs over all blocks and words together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from simcse_tf.tokenizers.double_array import LEAF, NO_KEY, build_double_array

_BLOCK = 256
_IMPOSSIBLE = -np.inf
_DOUBLE_BITS = 53


class _Window(NamedTuple):
    """The last places at which a piece may have begun, the latest in the last column.

    Attributes:
        bases: int32 tensor of shape `[n, columns]`. The node of the trie that the
            characters since that place lead to.
        scores: float64 tensor of shape `[n, starts, columns]`. The best score up to
            that place, for each way in which the window may have begun.
    """

    bases: tf.Tensor
    scores: tf.Tensor


class Viterbi:
    """Segments words into the pieces whose scores have the greatest sum.

    Sums are taken in float64 from a word's beginning, and of two equal ones that with
    the longer last piece counts, at every place. That is how the `tokenizers` package
    computes; float32 has other ties. A character that is no piece itself counts as
    the unknown piece.

    Args:
        pieces: Sequence of int arrays. The symbols of each piece, greater than 0.
        scores: Sequence of float. Their scores.
        unknown_score: float. The score of an unknown character.
        alphabet: int. Greater than any symbol.

    Example:

    ```python
    viterbi = Viterbi([np.array([1]), np.array([1, 2])], [-1.0, -3.0], -13.0, 4)
    words = tf.ragged.constant([[1, 2], [1, 1, 3]])
    viterbi(words)  # [[1], [0, 0, -1]]
    ```
    """

    def __init__(
        self,
        pieces: Sequence[np.ndarray],
        scores: Sequence[float],
        unknown_score: float,
        alphabet: int,
    ):
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        symbols = np.concatenate([np.zeros(0, np.int64), *pieces])
        trie = build_double_array(symbols, lengths, alphabet)
        # Two pieces that are none: a string that is not in the trie, and an unknown
        # character. They have the last two scores, so that each has its number.
        self._none, self._unknown = len(pieces), len(pieces) + 1
        self._columns = max(1, int(lengths.max(initial=0)))
        self._exact_length = _exact_length([*scores, unknown_score])
        self._root = trie.root
        with tf.init_scope(), tf.device("CPU"):
            self._parents = tf.constant(trie.parents)
            self._bases = tf.constant(trie.bases)
            keys = np.where(trie.keys == NO_KEY, self._none, trie.keys)
            self._pieces = tf.constant(keys.astype(np.int32))
            self._scores = tf.constant(
                [*scores, _IMPOSSIBLE, unknown_score], tf.float64
            )

    def __call__(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Segments words.

        Args:
            words: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The symbols
                of each word; 0 is a character that no piece holds. None is empty.

        Returns:
            `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The number of each
            piece, in order; -1 is an unknown character.
        """
        symbols, splits = words.values, words.row_splits
        lengths = words.row_lengths()
        longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
        block = tf.constant(max(_BLOCK, self._columns), tf.int64)
        # Where the order of summation could matter, it is kept.
        block = tf.where(longest > self._exact_length, longest, block)

        blocks = (lengths + block - 1) // block
        word = tf.repeat(tf.range(tf.size(blocks)), blocks)
        place = tf.ragged.range(blocks).values * block
        begins = tf.gather(splits, word) + place
        sizes = tf.minimum(block, tf.gather(lengths, word) - place)
        is_first = place == 0

        window = tf.cond(
            longest > block,
            lambda: self._windows(symbols, begins, is_first, block),
            lambda: self._fresh(tf.size(begins)),
        )
        choices = self._choose(symbols, begins, sizes, window)
        return self._segments(choices, words)

    def _fresh(self, count: tf.Tensor) -> _Window:
        """The windows at the beginning of words: no piece has begun before."""
        bases = [LEAF] * (self._columns - 1) + [self._root]
        scores = [_IMPOSSIBLE] * (self._columns - 1) + [0.0]
        return _Window(
            tf.tile([bases], [count, 1]),
            tf.tile(tf.constant([[scores]], tf.float64), [count, 1, 1]),
        )

    def _follow(self, bases: tf.Tensor, symbols: tf.Tensor) -> tf.Tensor:
        """The units of the trie to which one more character leads; 0 if to none."""
        units = bases + symbols[:, None]
        return tf.where(tf.gather(self._parents, units) == bases, units, 0)

    def _moved(self, units: tf.Tensor) -> tf.Tensor:
        """The window's bases one place further, where a piece may begin."""
        root = tf.fill([tf.shape(units)[0], 1], self._root)
        return tf.concat([tf.gather(self._bases, units[:, 1:]), root], axis=1)

    def _step(
        self, window: _Window, symbols: tf.Tensor
    ) -> tuple[_Window, tf.Tensor, tf.Tensor]:
        """Takes one character: the next window, the pieces, the sums with each."""
        units = self._follow(window.bases, symbols)
        pieces = tf.gather(self._pieces, units)
        is_last = np.arange(self._columns) == self._columns - 1
        pieces = tf.where((pieces == self._none) & is_last, self._unknown, pieces)
        sums = window.scores + tf.gather(self._scores, pieces)[:, None]
        best = tf.reduce_max(sums, axis=2, keepdims=True)
        scores = tf.concat([window.scores[:, :, 1:], best], axis=2)
        return _Window(self._moved(units), scores), pieces, sums

    def _choose(
        self, symbols: tf.Tensor, begins: tf.Tensor, sizes: tf.Tensor, window: _Window
    ) -> tf.Tensor:
        """For each place of each block, the last piece of the best segmentation.

        Returns:
            int64 tensor of shape `[characters, 3]`, in any order: the place in
            `symbols`, the piece and the number of its characters.
        """
        # Longest first: those that go on are always the first ones.
        order = tf.argsort(sizes, direction="DESCENDING", stable=True)
        begins = tf.gather(begins, order)
        window = _Window(*(tf.gather(each, order) for each in window))
        steps = tf.reduce_max(tf.concat([sizes, [0]], axis=0))
        ends = tf.math.bincount(tf.cast(sizes, tf.int32), dtype=tf.int64)
        counts = tf.cumsum(ends, reverse=True, exclusive=True)
        lengths = np.arange(self._columns, 0, -1)

        def body(
            step: tf.Tensor, window: _Window, choices: tf.TensorArray
        ) -> tuple[tf.Tensor, _Window, tf.TensorArray]:
            count = counts[step]
            places = begins[:count] + step
            window, pieces, sums = self._step(
                _Window(*(each[:count] for each in window)), tf.gather(symbols, places)
            )
            is_best = sums[:, 0] == window.scores[:, 0, -1:]
            length = tf.reduce_max(tf.where(is_best, lengths, 0), axis=1)
            piece = tf.gather(pieces, self._columns - length, batch_dims=1)
            choice = tf.stack([places, tf.cast(piece, tf.int64), length], axis=1)
            return step + 1, window, choices.write(tf.cast(step, tf.int32), choice)

        choices = tf.TensorArray(
            tf.int64, tf.cast(steps, tf.int32), infer_shape=False, element_shape=[None, 3]
        )
        _, _, choices = tf.while_loop(
            lambda step, *_: step < steps,
            body,
            (tf.constant(0, tf.int64), window, choices),
            shape_invariants=(
                tf.TensorShape([]),
                _Window(
                    tf.TensorShape([None, self._columns]),
                    tf.TensorShape([None, 1, self._columns]),
                ),
                tf.TensorShape(None),
            ),
        )
        return choices.concat()

    def _windows(
        self,
        symbols: tf.Tensor,
        begins: tf.Tensor,
        is_first: tf.Tensor,
        block: tf.Tensor,
    ) -> _Window:
        """The windows at the beginning of all blocks."""
        fresh = self._fresh(tf.size(begins))
        bases = self._bases_before(symbols, begins, is_first)
        before = tf.where(~is_first)[:, 0] - 1
        matrices = self._matrices(
            symbols, tf.gather(begins, before), tf.gather(bases, before), block
        )
        restarts = tf.gather(is_first, before)
        beginning = fresh.scores[0, 0]

        def body(
            index: tf.Tensor, scores: tf.Tensor, windows: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            scores = tf.where(restarts[index], beginning, scores)
            scores = tf.reduce_max(scores[:, None] + matrices[index], axis=0)
            return index + 1, scores, windows.write(index, scores)

        count = tf.size(before)
        _, _, windows = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (0, beginning, tf.TensorArray(tf.float64, count)),
        )
        scores = tf.tensor_scatter_nd_update(
            fresh.scores[:, 0], before[:, None] + 1, windows.stack()
        )
        return _Window(bases, scores[:, None])

    def _bases_before(
        self, symbols: tf.Tensor, begins: tf.Tensor, is_first: tf.Tensor
    ) -> tf.Tensor:
        """The windows' bases that follow from the characters before each block."""
        fresh = self._fresh(tf.size(begins)).bases
        bases = fresh
        for place in range(1 - self._columns, 0):
            before = tf.gather(symbols, tf.maximum(begins + place, 0))
            bases = self._moved(self._follow(bases, before))
        return tf.where(is_first[:, None], fresh, bases)

    def _matrices(
        self, symbols: tf.Tensor, begins: tf.Tensor, bases: tf.Tensor, block: tf.Tensor
    ) -> tf.Tensor:
        """The best score from each column of a block's window to each of the next's."""
        ways = np.where(np.eye(self._columns, dtype=bool), 0.0, _IMPOSSIBLE)
        scores = tf.tile(tf.constant(ways)[None], [tf.size(begins), 1, 1])

        def body(step: tf.Tensor, window: _Window) -> tuple[tf.Tensor, _Window]:
            window, _, _ = self._step(window, tf.gather(symbols, begins + step))
            return step + 1, window

        _, window = tf.while_loop(
            lambda step, _: step < block,
            body,
            (tf.constant(0, tf.int64), _Window(bases, scores)),
        )
        return window.scores

    def _segments(self, choices: tf.Tensor, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Goes back from the end of each word, from piece to piece."""
        size = tf.size(words.values, tf.int64)
        chosen = tf.scatter_nd(choices[:, :1], choices[:, 1:], [size, 2])
        word = words.value_rowids()
        before = tf.range(size) - chosen[:, 1]
        is_inside = before >= tf.gather(words.row_splits, word)
        before = tf.concat([tf.where(is_inside, before, size), [size]], axis=0)
        ends = tf.scatter_nd(
            words.row_splits[1:, None] - 1,
            tf.ones([words.nrows()], tf.bool),
            [size + 1],
        )

        def body(before: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Each turn doubles the number of pieces that are known from the end.
            reached = tf.boolean_mask(before, ends)
            more = tf.tensor_scatter_nd_update(
                ends, reached[:, None], tf.ones_like(reached, tf.bool)
            )
            return tf.gather(before, before), more

        _, ends = tf.while_loop(
            lambda before, _: tf.reduce_any(before != size), body, (before, ends)
        )
        pieces = tf.cast(tf.boolean_mask(chosen[:, 0], ends[:-1]), tf.int32)
        return tf.RaggedTensor.from_value_rowids(
            tf.where(pieces == self._unknown, -1, pieces),
            tf.boolean_mask(word, ends[:-1]),
            words.nrows(),
            validate=False,
        )


def _exact_length(scores: Sequence[float]) -> int:
    """The most characters of a word for which no sum of scores is ever rounded."""
    values = np.abs(np.array(scores, np.float64))
    values = values[values > 0]
    if not len(values):
        return np.iinfo(np.int64).max
    mantissas, exponents = np.frexp(values)
    integers = (mantissas * 2.0**_DOUBLE_BITS).astype(np.int64)
    lowest_bits = np.log2((integers & -integers).astype(np.float64))
    unit = float(np.min(exponents + lowest_bits)) - _DOUBLE_BITS
    return int(min(2.0 ** (_DOUBLE_BITS + unit) / values.max(), 2.0**62))
