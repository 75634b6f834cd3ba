"""The first ids of long texts, from as little of them as decides these ids.

Tokenizing takes a hundred times a text's bytes in memory, and only the first ids of a
text are used. So a long text is read window by window until it has enough of them.

A tokenizer's `Step` gets what earlier windows have left open, and one more window. It
returns ids, and what is open now. One rule makes the result exact: whatever follows,

    ids(open + window + what follows) = ids returned + ids(open now + what follows).

By induction, all ids returned and then those of what is open at the end are the ids of
the text. Once a text has all the ids that are used, the rule has done its work, and the
last step may leave open what it likes.

Two things bound time and memory. A step reads `BUDGET` bytes, rows taking turns. And
what is open stays small; where some made-up text makes it grow, a window is at least as
large as what is open, so that all windows together take time in proportion to the text.
"""

from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from simcse_tf.tokenizers.ragged import first_of, of_row

# Bytes that are tokenized at once.
BUDGET = 1 << 19
# A text's first window. Few texts have tokens of more bytes than this, on average.
BYTES_PER_ID = 16
SMALLEST_WINDOW = 1 << 12

State = tuple[tf.Tensor, ...]


class Step(Protocol):
    """Tokenizes one more window of some texts, by the rule that the module states."""

    def __call__(
        self, state: State, window: tf.Tensor, is_last: tf.Tensor, room: tf.Tensor
    ) -> tuple[tf.RaggedTensor, State]:
        """Tokenizes one more window.

        Args:
            state: Tensors of shape `[n]`. What is open of each text; strings among
                them are text that this step reads again.
            window: String tensor of shape `[n]`. Whole code points, and bytes that are
                part of none, whatever follows.
            is_last: bool tensor of shape `[n]`. Whether the text ends with it.
            room: int32 tensor of shape `[n]`. How many ids are still used.

        Returns:
            The ids, int32 of shape `[n, None]`, and what is open now.
        """
        ...


def first_ids(
    text: tf.Tensor,
    room: tf.Tensor,
    whole: Callable[[tf.Tensor], tf.RaggedTensor],
    step: Step,
    state: State,
) -> tf.RaggedTensor:
    """The first ids of texts, at least `room` of each that has so many.

    Args:
        text: String tensor of shape `[n]`.
        room: int32 scalar.
        whole: Callable. Tokenizes a batch of short texts at once: string `[n]` to int32
            `[n, None]`.
        step: `Step`. Tokenizes a window.
        state: Tensors of shape `[n]`. What is open before the first window.

    Returns:
        `tf.RaggedTensor` of dtype int32 and shape `[n, None]`.

    Example:

    ```python
    def whole(texts):
        return tf.strings.unicode_decode(texts, "UTF-8")

    def step(state, window, is_last, room):
        return whole(window), state  # nothing is ever open

    first_ids(tf.constant(["ab"]), 1, whole, step, ())  # [[97, 98]]
    ```
    """
    sizes = tf.strings.length(text)
    first = tf.clip_by_value(room, 1, BUDGET // BYTES_PER_ID) * BYTES_PER_ID
    first = tf.maximum(first, SMALLEST_WINDOW)
    is_short = tf.reduce_all(sizes <= first) & (
        tf.reduce_sum(tf.cast(sizes, tf.int64)) <= BUDGET
    )

    # One operation, not inlined: each of a branch that is not taken costs time.
    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def in_windows() -> tf.RaggedTensor:
        return _in_windows(text, sizes, room, first, step, state)

    return tf.cond(is_short, lambda: whole(text), in_windows)


def _in_windows(
    text: tf.Tensor,
    sizes: tf.Tensor,
    room: tf.Tensor,
    first: tf.Tensor,
    step: Step,
    state: State,
) -> tf.RaggedTensor:
    def body(
        read: tf.Tensor,
        counts: tf.Tensor,
        state: State,
        turn: tf.Tensor,
        rows_of: tf.TensorArray,
        ids_of: tf.TensorArray,
    ) -> tuple[object, ...]:
        # Twice what was read before: few windows, and little more than is needed.
        wanted = tf.clip_by_value(2 * tf.minimum(read, BUDGET), first, BUDGET)
        wanted = tf.minimum(tf.maximum(wanted, _open(state)), sizes - read)
        rows = _next_rows(_unfinished(read, counts), wanted + _open(state))

        texts, begin, size = (tf.gather(each, rows) for each in (text, read, wanted))
        is_last = begin + size == tf.gather(sizes, rows)
        size -= tf.where(is_last, 0, _incomplete(texts, begin + size))
        ids, here = step(
            tuple(tf.gather(each, rows) for each in state),
            tf.strings.substr(texts, begin, size),
            is_last,
            room - tf.gather(counts, rows),
        )
        ids = first_of(ids, room)
        at = rows[:, None]
        return (
            tf.tensor_scatter_nd_add(read, at, size),
            tf.tensor_scatter_nd_add(counts, at, tf.cast(ids.row_lengths(), tf.int32)),
            tuple(
                tf.tensor_scatter_nd_update(each, at, new)
                for each, new in zip(state, here, strict=True)
            ),
            turn + 1,
            rows_of.write(turn, of_row(ids, rows)),
            ids_of.write(turn, ids.values),
        )

    def _unfinished(read: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        return (read < sizes) & (counts < room)

    arrays = [
        tf.TensorArray(kind, 0, True, infer_shape=False, element_shape=[None])
        for kind in (tf.int64, tf.int32)
    ]
    nothing = tf.zeros_like(sizes)
    *_, rows_of, ids_of = tf.while_loop(
        lambda read, counts, *_: tf.reduce_any(_unfinished(read, counts)),
        body,
        (nothing, nothing, state, tf.constant(0), *arrays),
        # No window before the last one is done with, and its memory returned.
        parallel_iterations=1,
    )
    rows = rows_of.concat()
    order = tf.argsort(rows, stable=True)
    return tf.RaggedTensor.from_value_rowids(
        tf.gather(ids_of.concat(), order),
        tf.gather(rows, order),
        tf.size(text, tf.int64),
        validate=False,
    )


def _open(state: State) -> tf.Tensor:
    """The bytes that the next step reads again."""
    texts = [tf.strings.length(each) for each in state if each.dtype == tf.string]
    return tf.add_n(texts) if texts else tf.constant(0)


def _next_rows(is_unfinished: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """The first rows that are not finished, as many as the budget has room for."""
    rows = tf.where(is_unfinished)[:, 0]
    together = tf.cumsum(tf.cast(tf.gather(sizes, rows), tf.int64))
    count = tf.reduce_sum(tf.cast(together <= BUDGET, tf.int32))
    return rows[: tf.maximum(count, 1)]


def _incomplete(text: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """How many bytes before a place may begin a code point that goes on behind it.

    What stands before such a byte, or before a place without one, is decoded the same
    way whatever follows: a code point has one leading byte and at most three behind it.
    """
    last = tf.strings.substr(text, tf.maximum(end - 3, 0), tf.minimum(end, 3))
    last = tf.cast(tf.io.decode_raw(last, tf.uint8, fixed_length=3), tf.int32)
    leads = last >= 0xC0
    goes_on = (last >= 0x80) & ~leads
    third = goes_on[:, 2]
    return (
        tf.where(leads[:, 2], 1, 0)
        + tf.where(leads[:, 1] & third, 2, 0)
        + tf.where(leads[:, 0] & goes_on[:, 1] & third, 3, 0)
    )
