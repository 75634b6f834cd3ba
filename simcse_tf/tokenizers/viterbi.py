"""The best segmentation of words into pieces, as TensorFlow operations.

A word's best segmentation up to a place is the best one up to an earlier place and one
piece. First the trie finds the pieces that end at each place, for all places at once.
Then all words take the step from place to place together; a window holds the best
scores up to the last places. This is a loop over the longest word's characters, so it
does as little as it can: which piece was the best is found behind it, for all places
at once again. Work and memory are linear in the length of the text.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from simcse_tf.tokenizers.double_array import LEAF, NO_KEY, build_double_array
from simcse_tf.tokenizers.ragged import chosen, first_of_rows, rows_of

_IMPOSSIBLE = -np.inf
# Characters that the loop takes in one turn. More than one, because a turn takes as
# long as ten operations.
_TURN = 4
# How long a common way is looked for, in lengths of the longest piece.
_PATIENCE = 16


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
        self._longest = int(lengths.max(initial=1))
        # Two pieces that are none: a string that is not in the trie, and an unknown
        # character. They have the last two scores, so that each has its number.
        self._none, self._unknown = len(pieces), len(pieces) + 1
        self._root = trie.root
        with tf.init_scope(), tf.device("CPU"):
            self._parents = tf.constant(trie.parents)
            self._bases = tf.constant(trie.bases)
            keys = np.where(trie.keys == NO_KEY, self._none, trie.keys)
            self._pieces = tf.constant(keys.astype(np.int32))
            self._scores = tf.constant(
                [*scores, _IMPOSSIBLE, unknown_score], tf.float64
            )

    def __call__(
        self, words: tf.RaggedTensor, is_open: tf.Tensor | None = None
    ) -> tf.RaggedTensor:
        """Segments words.

        Args:
            words: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The symbols
                of each word; 0 is a character that no piece holds. None is empty.
            is_open: Optional bool tensor of shape `[n]`. Whether a word may go on. It
                then has those pieces only that it begins with in any case.

        Returns:
            `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The number of each
            piece, in order; -1 is an unknown character.
        """
        if is_open is None:
            is_open = tf.zeros([words.nrows()], tf.bool)
        return self._pieces_of(words, is_open)

    # Stands in several branches of a tokenizer: traced once, and not copied.
    @tf.function(
        input_signature=[
            tf.RaggedTensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.bool),
        ],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    def _pieces_of(self, words: tf.RaggedTensor, is_open: tf.Tensor) -> tf.RaggedTensor:
        symbols, splits = words.values, words.row_splits
        word = rows_of(words)
        inside = tf.gather(splits[1:], word) - tf.range(tf.size(symbols, tf.int64))
        pieces = self._ending_pieces(symbols, tf.cast(inside, tf.int32))
        best = self._best_scores(pieces, words)
        piece, length = self._last_pieces(pieces, best, first_of_rows(words))
        ends = tf.tensor_scatter_nd_update(
            words.row_limits(),
            tf.where(is_open),
            self._sure_ends(length, words, is_open),
        )
        return self._segments(piece, length, words, ends)

    def _ending_pieces(self, symbols: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
        """The piece of each length that ends at each place.

        Args:
            symbols: int32 tensor of shape `[characters]`.
            inside: int32 tensor of shape `[characters]`. The number of characters up to
                the word's end.

        Returns:
            int32 tensor of shape `[lengths, characters]`.
        """
        size = tf.size(symbols)

        def body(
            length: tf.Tensor, bases: tf.Tensor, found: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            # One more character for the pieces that begin at each place.
            gap = tf.minimum(length - 1, size)
            nothing = tf.zeros([gap], tf.int32)
            following = tf.concat([symbols[gap:], nothing], axis=0)
            units = bases + tf.where(length <= inside, following, 0)
            units = tf.where(tf.gather(self._parents, units) == bases, units, 0)
            pieces = tf.gather(self._pieces, units)
            is_unknown = (pieces == self._none) & (length == 1)
            pieces = tf.where(is_unknown, self._unknown, pieces)
            ending = tf.concat([nothing + self._none, pieces[: size - gap]], axis=0)
            bases = tf.gather(self._bases, units)
            return length + 1, bases, found.write(length - 1, ending)

        found = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None])
        _, _, found = tf.while_loop(
            lambda length, bases, _: (length == 1) | tf.reduce_any(bases != LEAF),
            body,
            (1, tf.fill([size], self._root), found),
        )
        return found.stack()

    def _best_scores(self, pieces: tf.Tensor, words: tf.RaggedTensor) -> tf.Tensor:
        """The best score from the word's beginning up to and with each character."""
        # Longest words first: those that go on are always the first ones.
        sizes = words.row_lengths()
        order = tf.argsort(sizes, direction="DESCENDING", stable=True)
        sizes, begins = tf.gather(sizes, order), tf.gather(words.row_starts(), order)
        steps = tf.reduce_max(tf.concat([sizes, [0]], axis=0))
        ends = tf.math.bincount(tf.cast(sizes, tf.int32), dtype=tf.int64)
        counts = tf.cumsum(ends, reverse=True, exclusive=True)

        size = tf.size(words.values, tf.int64)
        # The longest piece first, as it begins at the window's first place.
        scores = tf.gather(self._scores, tf.transpose(tf.reverse(pieces, [0])))
        lengths = tf.shape(pieces)[0]
        window = tf.fill(
            [tf.size(sizes), lengths], tf.constant(_IMPOSSIBLE, tf.float64)
        )
        window = tf.concat([window[:, 1:], tf.zeros_like(window[:, :1])], axis=1)

        def body(
            step: tf.Tensor,
            window: tf.Tensor,
            places: tf.TensorArray,
            best: tf.TensorArray,
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
            count = counts[step]
            window = window[:count]
            turn = step + tf.range(_TURN, dtype=tf.int64)
            place = begins[:count, None] + turn
            added = tf.gather(scores, tf.minimum(place, size - 1))
            bests = []
            for scores_here in tf.unstack(added, _TURN, axis=1):
                sums = window + scores_here
                bests.append(tf.reduce_max(sums, axis=1, keepdims=True))
                window = tf.concat([window[:, 1:], bests[-1]], axis=1)
            place = tf.where(turn < sizes[:count, None], place, size)
            index = tf.cast(step // _TURN, tf.int32)
            return (
                step + _TURN,
                window,
                places.write(index, place),
                best.write(index, tf.concat(bests, axis=1)),
            )

        turns = tf.cast((steps + _TURN - 1) // _TURN, tf.int32)
        arrays = [
            tf.TensorArray(kind, turns, infer_shape=False, element_shape=[None, _TURN])
            for kind in (tf.int64, tf.float64)
        ]
        _, _, places, best = tf.while_loop(
            lambda step, *_: step < steps,
            body,
            (tf.constant(0, tf.int64), window, *arrays),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, None]),
                *[tf.TensorShape(None)] * 2,
            ),
        )
        return tf.tensor_scatter_nd_update(
            tf.zeros([size + 1], tf.float64),
            tf.reshape(places.concat(), [-1, 1]),
            tf.reshape(best.concat(), [-1]),
        )[:size]

    def _last_pieces(
        self, pieces: tf.Tensor, best: tf.Tensor, first: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The last piece of the best segmentation up to each place, and its length."""
        size = tf.size(best)
        before = tf.where(first, tf.zeros_like(best), tf.roll(best, 1, axis=0))

        def body(
            length: tf.Tensor, piece: tf.Tensor, best_length: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            ending = pieces[length - 1]
            start = tf.roll(before, length - 1, axis=0)
            is_best = start + tf.gather(self._scores, ending) == best
            piece = tf.where(is_best, ending, piece)
            # Of equal sums that with the longer piece counts, the later one here.
            return length + 1, piece, tf.where(is_best, length, best_length)

        nothing = tf.zeros([size], tf.int32)
        _, piece, length = tf.while_loop(
            lambda length, *_: length <= tf.shape(pieces)[0],
            body,
            (1, nothing, nothing),
        )
        return piece, length

    def _sure_ends(
        self,
        length: tf.Tensor,
        words: tf.RaggedTensor,
        is_open: tf.Tensor,
    ) -> tf.Tensor:
        """Up to where the pieces of open words are the same, however the words go on.

        The best segmentation up to a place does not depend on what is behind it. That
        of the whole word has a piece that ends at one of the last places so far, of
        which there are as many as the longest piece has characters: none is long enough
        to cross them all. So it goes on with the way back from one of them, and where
        the ways back from all of them have met, with that.
        """
        starts = chosen(words.row_starts(), is_open)[:, None]
        ends = chosen(words.row_limits(), is_open)[:, None]
        # The number of characters before a place, not of the place itself.
        ways = tf.maximum(ends - tf.range(self._longest, dtype=tf.int64), starts)
        # At a word's beginning a way ends.
        back = tf.concat([[0], tf.cast(length, tf.int64)], axis=0)

        def furthest(ways: tf.Tensor) -> tf.Tensor:
            return tf.reduce_max(ways, axis=1, keepdims=True)

        def body(turn: tf.Tensor, ways: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            step = tf.where(ways > starts, tf.gather(back, ways), 0)
            is_behind = (ways == furthest(ways)) & ~have_met(ways)
            return turn + 1, tf.where(is_behind, ways - step, ways)

        def have_met(ways: tf.Tensor) -> tf.Tensor:
            return tf.reduce_all(ways == ways[:, :1], axis=1, keepdims=True)

        _, ways = tf.while_loop(
            lambda turn, ways: (
                (turn < _PATIENCE * self._longest) & ~tf.reduce_all(have_met(ways))
            ),
            body,
            (0, ways),
        )
        return tf.where(have_met(ways), furthest(ways), starts)[:, 0]

    def _segments(
        self,
        piece: tf.Tensor,
        length: tf.Tensor,
        words: tf.RaggedTensor,
        word_ends: tf.Tensor,
    ) -> tf.RaggedTensor:
        """Goes back from the end of each word, from piece to piece."""
        size = tf.size(words.values, tf.int64)
        word = rows_of(words)
        before = tf.range(size) - tf.cast(length, tf.int64)
        is_inside = before >= tf.gather(words.row_splits, word)
        before = tf.concat([tf.where(is_inside, before, size), [size]], axis=0)
        # Of a word without a piece, the place behind all others.
        last = tf.where(word_ends > words.row_starts(), word_ends - 1, size)
        ends = tf.tensor_scatter_nd_update(
            tf.zeros([size + 1], tf.bool), last[:, None], tf.ones_like(last, tf.bool)
        )

        def body(before: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Each turn doubles the number of pieces that are known from the end.
            reached = chosen(before, ends)
            more = tf.tensor_scatter_nd_update(
                ends, reached[:, None], tf.ones_like(reached, tf.bool)
            )
            return tf.gather(before, before), more

        _, ends = tf.while_loop(
            lambda before, _: tf.reduce_any(before != size), body, (before, ends)
        )
        pieces = chosen(piece, ends[:-1])
        return tf.RaggedTensor.from_value_rowids(
            tf.where(pieces == self._unknown, -1, pieces),
            chosen(word, ends[:-1]),
            words.nrows(),
            validate=False,
        )
