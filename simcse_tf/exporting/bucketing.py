"""A batch in buckets of similar length, in the graph: it costs what its tokens cost.

Rows that fit into one bucket, such as a single one, go there without sorting or a loop.
"""

from collections.abc import Callable

import tensorflow as tf

# To run a bucket at all costs as much as 17 tokens in float32 and 50 in half precision
# or int8 (MiniLM, one CPU core). Rows share a bucket while their padding costs no more
# than that: several buckets keep several cores busy.
MAX_PADDING = 32
# In a larger bucket a token costs no less, and memory grows.
MAX_TOKENS = 1024
# Buckets are small, so each has a core of its own: 64 sentences make about twelve.
PARALLEL_BUCKETS = 16


def embed_in_buckets(
    embed: Callable[[tf.RaggedTensor], tf.Tensor],
    tokens: tf.RaggedTensor,
    width: int,
    max_padding: int = MAX_PADDING,
    max_tokens: int = MAX_TOKENS,
    parallel_buckets: int = PARALLEL_BUCKETS,
) -> tf.Tensor:
    """Runs a function on the rows of a batch, those of similar length together.

    Args:
        embed: Maps a ragged tensor of `k` rows to a float32 tensor `(k, width)`, one
            row of it a function of one row of tokens.
        tokens: Ragged tensor of shape `(n, None)`.
        width: int. How many columns `embed` returns.
        max_padding: int. The padding that the rows of a bucket may need in all.
        max_tokens: int. The tokens of a bucket, padding included. A longer row has a
            bucket of its own.
        parallel_buckets: int. How many buckets may run side by side.

    Returns:
        float32 tensor of shape `(n, width)`, in the order of `tokens`.

    Example:

    ```python
    tokens = model.tokens(tf.constant(["A man plays.", "Yes."]))
    embed_in_buckets(embed, tokens, width=768)  # float32, (2, 768)
    ```
    """
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    count = tf.size(lengths)
    padded = count * tf.reduce_max(lengths)
    padding = padded - tf.reduce_sum(lengths)
    fits = (padding <= max_padding) & (padded <= max_tokens) & (count > 0)

    # One operation, not inlined: each of a branch that is not taken costs time.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def in_several() -> tf.Tensor:
        return _in_several(
            embed, tokens, lengths, width, max_padding, max_tokens, parallel_buckets
        )

    return tf.cond(fits | (count == 1), lambda: embed(tokens), in_several)


def _in_several(
    embed: Callable[[tf.RaggedTensor], tf.Tensor],
    tokens: tf.RaggedTensor,
    lengths: tf.Tensor,
    width: int,
    max_padding: int,
    max_tokens: int,
    parallel_buckets: int,
) -> tf.Tensor:
    order = tf.argsort(lengths, stable=True)
    lengths, tokens = tf.gather(lengths, order), tf.gather(tokens, order)
    tokens_before = tf.cumsum(lengths, exclusive=True)

    def start_of_bucket(stop: tf.Tensor) -> tf.Tensor:
        """The first row of the bucket that ends with row `stop - 1`, its longest."""
        longest = lengths[stop - 1]
        # Row by row: the tokens and the padding of a bucket that starts with it.
        padded = longest * tf.range(stop, 0, -1)
        padding = padded - (tokens_before[stop - 1] + longest - tokens_before[:stop])
        too_early = (padding > max_padding) | (padded > max_tokens)
        return tf.minimum(tf.math.count_nonzero(too_early, dtype=tf.int32), stop - 1)

    def next_bucket(stop: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = start_of_bucket(stop)
        return start, tf.concat([embed(tokens[start:stop]), done], axis=0)

    # The longest bucket comes first: what does not fit in memory fails at once.
    _, embedded = tf.while_loop(
        lambda stop, done: stop > 0,
        next_bucket,
        (tf.size(order), tf.zeros([0, width])),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, width])),
        parallel_iterations=parallel_buckets,
    )
    return tf.gather(embedded, tf.math.invert_permutation(order))
