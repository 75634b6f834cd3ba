"""The pieces that a word begins with, whatever follows, under byte-pair encoding.

Merges may reach far: what stands behind a place can change the pieces before it. But
whether it does can be checked. Call BPE(w) the pieces of a word w, of at most L bytes
each, and note three facts.

1. If BPE(w) has a boundary at i, no merge crosses it, and BPE(w) = BPE(w[:i]) +
   BPE(w[i:]). The same holds for any stretch between two boundaries.
2. If w begins with x, which has L bytes or more, BPE(w) has a boundary among the last
   L places of x, its end included: no piece is long enough to cross them all.
3. Say BPE(a) ends with the piece l, BPE(b) begins with the piece r, and BPE(lr) = l, r.
   Then BPE(ab) = BPE(a) + BPE(b). For if not, consider the first merge across the
   boundary. Before it, a and b are merged as each would be alone. So by fact 1 no merge
   so far has crossed an end of l or r. Each of these merges, and the one across the
   boundary, came first among all pairs in ab, and so it does among the fewer pairs in
   lr. Hence BPE(lr) has the same merges there, and crosses the boundary too.

Now let w begin with x, and BPE(x) have a boundary at q, between the pieces l and r; by
fact 1, BPE(lr) = l, r. Check that BPE(x[q:i]) begins with r for each of the last L
places i of x. By facts 2 and 1, applied to w[q:], BPE(w[q:]) begins with r as well. By
fact 3, BPE(w) = BPE(x[:q]) + BPE(w[q:]): it begins with the pieces of x up to q.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from simcse_tf.tokenizers.ragged import (
    chosen,
    first_of_rows,
    kept,
    of_row,
    rows_of,
    sums,
)


class SurePieces:
    """Finds the pieces that a word begins with, whatever follows.

    Args:
        sizes: Sequence of int. The bytes of each piece.

    Example:

    ```python
    SurePieces([1, 1, 2])(words, encode, room)  # [[2, 2, 2], []]
    ```
    """

    def __init__(self, sizes: Sequence[int]):
        self._longest = max(sizes)
        # The check reads three times as many bytes. For shorter words it does not pay.
        self._smallest = max(self._longest**2, 4 * self._longest)
        with tf.init_scope(), tf.device("CPU"):
            self._sizes = tf.constant(sizes, tf.int32)

    def __call__(
        self,
        word: tf.Tensor,
        encode: Callable[[tf.Tensor], tf.RaggedTensor],
        room: tf.Tensor,
    ) -> tf.RaggedTensor:
        """Finds the sure pieces of words, where there are enough of them.

        Args:
            word: String tensor of shape `[n]`. What is known of each word.
            encode: Callable. The pieces of strings, none of an empty one alone: string
                `[m]` to int32 `[m, None]`.
            room: int32 tensor of shape `[n]`. How many pieces are enough.

        Returns:
            int32 ragged tensor of shape `[n, None]`. Nothing of a word that is short,
            has too few pieces or fails the check.
        """
        size = tf.strings.length(word)
        is_long = size >= self._smallest
        pieces = encode(tf.where(is_long, word, ""))
        sizes = tf.gather(self._sizes, pieces.values)
        rows = rows_of(pieces)
        total = tf.concat([[0], tf.cumsum(sizes)], axis=0)
        ends = total[1:] - tf.gather(total, tf.gather(pieces.row_starts(), rows))
        is_inside = ends <= tf.gather(size, rows) - 2 * self._longest
        sure = kept(pieces, is_inside)
        is_enough = is_long & (tf.cast(sure.row_lengths(), tf.int32) >= room)

        checked = tf.where(is_enough)
        sizes = sure.with_values(tf.gather(self._sizes, sure.values))
        boundary = tf.gather_nd(sums(sizes), checked)
        passes = self._pass(tf.gather_nd(word, checked), boundary, encode)
        is_sure = tf.scatter_nd(checked, passes, tf.shape(word, tf.int64))
        return kept(sure, of_row(sure, is_sure))

    def _pass(
        self,
        word: tf.Tensor,
        boundary: tf.Tensor,
        encode: Callable[[tf.Tensor], tf.RaggedTensor],
    ) -> tf.Tensor:
        """Whether the piece behind a boundary is the same wherever the word is cut."""
        size = tf.strings.length(word) - boundary
        tails = tf.strings.substr(word, boundary, size)
        cuts = tf.tile(tails[:, None], [1, self._longest])
        sizes = size[:, None] - tf.range(self._longest)
        cuts = tf.strings.substr(cuts, tf.zeros_like(sizes), sizes)
        first = encode(tf.reshape(cuts, [-1]))
        first = chosen(first.values, first_of_rows(first))
        first = tf.reshape(first, [-1, self._longest])
        return tf.reduce_all(first == first[:, :1], axis=1)
