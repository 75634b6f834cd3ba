"""What a window of a long text adds to its Unigram ids, and what it leaves open.

Open are the last cluster of code points, which may go on and is then normalized as one,
and before it, normalized already, the last word.

Of the characters that no piece holds, one stands for all that follow each other. They
become one token. The pieces of the others stay what they are if no sum of scores is
rounded: each character of the run adds the same to every sum that passes it, and no
other sum is compared with those. Sums are not rounded as long as they are multiples of
a power of two that 53 bits can hold, so this is done in texts that are short enough
for that. With XLM-R's scores, which are float32, these have tens of megabytes.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from simcse_tf.tokenizers.metaspace import Alphabet, Spaces, known_spaces, open_part
from simcse_tf.tokenizers.precompiled import PrecompiledNormalizer
from simcse_tf.tokenizers.ragged import first_of_rows, kept, of_row, side_by_side
from simcse_tf.tokenizers.unigram_scores import exact_sums
from simcse_tf.tokenizers.windows import State


class UnigramWindows:
    """Tokenizes windows: `step` is a `Step`.

    Args:
        normalizer: `PrecompiledNormalizer` or `None`.
        alphabet: `Alphabet`. The characters that pieces hold.
        spaces: `Spaces`.
        scores: Sequence of float. All scores that are summed.
        segment: Callable. The ids of texts that the normalizer has been through: their
            code points, int32 `[n, None]`, and how many of the texts are complete, to
            int32 `[n, None]`. The last word of each of the others may go on, and it has
            those ids only that it has then as well.

    Example:

    ```python
    windows = UnigramWindows(None, alphabet, SPACES["split"], scores, segment)
    first_ids(text, room, whole, windows.step, windows.begin(text))
    ```
    """

    def __init__(
        self,
        normalizer: PrecompiledNormalizer | None,
        alphabet: Alphabet,
        spaces: Spaces,
        scores: Sequence[float],
        segment: Callable[[tf.RaggedTensor, tf.Tensor], tf.RaggedTensor],
    ):
        self._normalizer = normalizer
        self._alphabet = alphabet
        self._spaces = spaces
        self._segment = segment
        expansion = normalizer.expansion if normalizer else 1.0
        # A word has one character more, for the space before it.
        exact = int(exact_sums(scores) / expansion) - 1
        self._exact_bytes = min(exact, tf.int32.max)

    def begin(self, text: tf.Tensor) -> State:
        """What is open before the first window.

        Args:
            text: String tensor of shape `[n]`.

        Returns:
            The cluster and the word that are open, strings of shape `[n]`, and whether
            sums of scores are exact, bool of shape `[n]`.
        """
        nothing = tf.fill(tf.shape(text), "")
        return nothing, nothing, tf.strings.length(text) <= self._exact_bytes

    def step(
        self, state: State, window: tf.Tensor, is_last: tf.Tensor, room: tf.Tensor
    ) -> tuple[tf.RaggedTensor, State]:
        """Tokenizes one more window; see `Step`."""
        cluster, begun, is_exact = state
        points = _decode(tf.strings.join([cluster, window]))
        if self._normalizer:
            is_open = self._normalizer.last_clusters(points) & ~of_row(points, is_last)
            cluster = _encode(kept(points, is_open))
            points = self._normalizer(kept(points, ~is_open))
        points = side_by_side(_decode(begun), points)
        is_strange = self._alphabet(points.values) == 0
        repeats = is_strange & tf.roll(is_strange, 1, axis=0) & ~first_of_rows(points)
        points = kept(points, ~(repeats & of_row(points, is_exact)))
        symbols = points.with_values(self._alphabet(points.values))
        is_open = open_part(symbols, self._spaces) & ~of_row(points, is_last)
        is_known = is_open & known_spaces(symbols, self._spaces)

        # The open word's first ids are sure, but only the last step needs them.
        parts = [kept(points, ~is_open), kept(points, is_known)]
        stacked = tf.concat(parts, axis=0)
        ids = self._segment(stacked, points.nrows())
        closed, sure = ids[: points.nrows()], ids[points.nrows() :]
        counts = closed.row_lengths() + sure.row_lengths()
        is_enough = counts >= tf.cast(room, tf.int64)
        ids = side_by_side(closed, kept(sure, of_row(sure, is_enough)))
        return ids, (cluster, _encode(kept(points, is_open)), is_exact)


def _decode(text: tf.Tensor) -> tf.RaggedTensor:
    return tf.strings.unicode_decode(text, "UTF-8")


def _encode(points: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.unicode_encode(points, "UTF-8")
