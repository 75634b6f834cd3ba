"""What every tokenizer does with a batch before and after its own work."""

from typing import Any

import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.ragged import first_of, rows_of


def batch_of(text: Any) -> tf.Tensor:
    """A batch of texts as a tensor.

    Args:
        text: String tensor of shape `[n]`, or what converts to one.

    Returns:
        String tensor of shape `[n]`.

    Raises:
        UserError: If `text` does not have one dimension.

    Example:

    ```python
    batch_of(["A sentence."])  # <tf.Tensor: shape=(1,), dtype=string>
    ```
    """
    strings = tf.convert_to_tensor(text, tf.string)
    if strings.shape.rank != 1:
        raise UserError(
            f"text must be a batch of strings of shape [n]; received {strings.shape}"
        )
    return strings


def check_max_length(max_length: Any, first: str, last: str) -> None:
    """Refuses a length without room for the tokens that enclose a row.

    Args:
        max_length: int. The most ids in a row.
        first: string. The token that begins a row.
        last: string. The token that ends it.

    Raises:
        UserError: If `max_length` is not an int of at least 2.

    Example:

    ```python
    check_max_length(32, "[CLS]", "[SEP]")
    ```
    """
    if not isinstance(max_length, int) or max_length < 2:
        raise UserError(
            f"max_length must be an int of at least 2, for {first} and {last}; "
            f"received {max_length!r}"
        )


def enclose(ids: tf.RaggedTensor, first: int, last: int) -> tf.RaggedTensor:
    """Puts one id before and one behind every row.

    Args:
        ids: int32 ragged tensor of shape `[n, None]`.
        first: int. The id that begins a row.
        last: int. The id that ends it.

    Returns:
        int32 ragged tensor of shape `[n, None]`.

    Example:

    ```python
    enclose(tf.ragged.constant([[7], []]), 2, 3)  # [[2, 7, 3], [2, 3]]
    ```
    """
    splits = ids.row_splits + 2 * tf.range(tf.size(ids.row_splits, tf.int64))
    places = tf.range(tf.size(ids.values, tf.int64)) + 2 * rows_of(ids) + 1
    outer = tf.ones_like(splits[1:], tf.int32)
    values = tf.dynamic_stitch(
        [tf.cast(each, tf.int32) for each in (splits[:-1], splits[1:] - 1, places)],
        [outer * first, outer * last, ids.values],
    )
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)


def cut(ids: tf.RaggedTensor, max_length: int, last: int) -> tf.RaggedTensor:
    """Cuts rows that were tokenized with a greater length.

    Args:
        ids: int32 ragged tensor of shape `[n, None]`, as a tokenizer returned it.
        max_length: int, at least 2. The most ids in a row.
        last: int. The id that ends a row.

    Returns:
        int32 ragged tensor of shape `[n, None]`: what the tokenizer returns for
        `max_length`.

    Example:

    ```python
    cut(tf.ragged.constant([[2, 7, 8, 9, 3], [2, 3]]), 4, 3)  # [[2, 7, 8, 3], [2, 3]]
    ```
    """
    first = first_of(ids, max_length)
    starts = tf.gather(first.row_splits, rows_of(first))
    place = tf.range(tf.size(first.values, tf.int64)) - starts
    # A full row ends with it, whether there was more or not.
    return first.with_values(tf.where(place == max_length - 1, last, first.values))
