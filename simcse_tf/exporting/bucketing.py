"""A batch in groups of similar length, in the graph: it costs what its tokens cost."""

from collections.abc import Callable

import tensorflow as tf

# To run a group at all costs what about 60 tokens cost (MiniLM on two CPU cores):
# rows go together while that is more than what their padding costs.
MAX_PADDING = 64
# Past it a token costs no less, and memory grows.
MAX_TOKENS = 1024
# Groups are small; a machine's cores are busier with some of them at a time.
AT_A_TIME = 4


def embed_by_length(
    embed: Callable[[tf.RaggedTensor], tf.Tensor],
    tokens: tf.RaggedTensor,
    width: int,
    max_padding: int = MAX_PADDING,
    max_tokens: int = MAX_TOKENS,
    at_a_time: int = AT_A_TIME,
) -> tf.Tensor:
    """Runs a function on the rows of a batch, those of similar length together.

    Args:
        embed: Maps a ragged tensor of `k` rows to a float32 tensor `(k, width)`, one
            row of it a function of one row of tokens.
        tokens: Ragged tensor of shape `(n, None)`.
        width: int. Columns of what `embed` returns.
        max_padding: int. The padding that rows of a group may need in all.
        max_tokens: int. Tokens of a group, padding included. A longer row is a group
            of its own.
        at_a_time: int. Groups that may run side by side.

    Returns:
        float32 tensor of shape `(n, width)`, in the order of `tokens`.
    """
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    order = tf.argsort(lengths, stable=True)
    lengths, tokens = tf.gather(lengths, order), tf.gather(tokens, order)
    shorter = tf.cumsum(lengths, exclusive=True)

    def start_of_group(stop: tf.Tensor) -> tf.Tensor:
        """The first of the rows that go with row `stop - 1`, which is the longest."""
        longest = lengths[stop - 1]
        padded = longest * tf.range(stop, 0, -1)
        padding = padded - (shorter[stop - 1] + longest - shorter[:stop])
        too_early = (padding > max_padding) | (padded > max_tokens)
        return tf.minimum(tf.math.count_nonzero(too_early, dtype=tf.int32), stop - 1)

    def next_group(stop: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = start_of_group(stop)
        return start, tf.concat([embed(tokens[start:stop]), done], axis=0)

    # From the longest to the shortest: what does not fit in memory fails at once.
    _, embedded = tf.while_loop(
        lambda stop, done: stop > 0,
        next_group,
        (tf.size(order), tf.zeros([0, width])),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, width])),
        parallel_iterations=at_a_time,
    )
    return tf.gather(embedded, tf.math.invert_permutation(order))
