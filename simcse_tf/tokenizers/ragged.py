"""Operations on ragged tensors that several tokenizers need.

TensorFlow's own are of 80 to 120 operations each. A tokenizer calls dozens of them, and
every model's first call traces them all.
"""

import tensorflow as tf


def rows_of(ragged: tf.RaggedTensor) -> tf.Tensor:
    """The row of each value, int64."""
    return ragged.to_sparse().indices[:, 0]


def first_of_rows(ragged: tf.RaggedTensor) -> tf.Tensor:
    """Whether each value is the first of its row, as a bool tensor."""
    row = rows_of(ragged)
    return tf.concat([[True], row[1:] != row[:-1]], axis=0)[: tf.size(row)]


def chosen(values: tf.Tensor, is_chosen: tf.Tensor) -> tf.Tensor:
    """The values of a tensor of shape `[n]` for which a bool tensor says so."""
    return tf.gather_nd(values, tf.where(is_chosen))


def kept(ragged: tf.RaggedTensor, is_kept: tf.Tensor) -> tf.RaggedTensor:
    """The values of each row for which a flat bool tensor says so."""
    return tf.RaggedTensor.from_row_splits(
        chosen(ragged.values, is_kept),
        tf.gather(_totals(tf.cast(is_kept, tf.int64)), ragged.row_splits),
        validate=False,
    )


def first_of(ragged: tf.RaggedTensor, count: tf.Tensor) -> tf.RaggedTensor:
    """The first values of each row, at most an int scalar of them."""
    starts = tf.gather(ragged.row_splits, rows_of(ragged))
    place = tf.range(tf.size(ragged.values, tf.int64)) - starts
    return kept(ragged, place < tf.cast(count, tf.int64))


def of_row(ragged: tf.RaggedTensor, values: tf.Tensor) -> tf.Tensor:
    """For each value, what a tensor holds for its row."""
    return tf.gather(values, rows_of(ragged))


def sums(ragged: tf.RaggedTensor) -> tf.Tensor:
    """The sum of each row of numbers."""
    totals = tf.gather(_totals(ragged.values), ragged.row_splits)
    return totals[1:] - totals[:-1]


def merged(rows: tf.RaggedTensor, parts: tf.RaggedTensor) -> tf.RaggedTensor:
    """Rows of which each value is replaced by the part with its number."""
    splits = tf.gather(parts.row_splits, rows.row_splits)
    return tf.RaggedTensor.from_row_splits(parts.values, splits, validate=False)


def side_by_side(left: tf.RaggedTensor, right: tf.RaggedTensor) -> tf.RaggedTensor:
    """The rows of one behind those of the other, as many."""
    places = [
        tf.range(tf.size(each.values, tf.int64)) + of_row(each, others)
        for each, others in (
            (left, right.row_splits),
            (right, left.row_splits[1:]),
        )
    ]
    return tf.RaggedTensor.from_row_splits(
        tf.dynamic_stitch(
            [tf.cast(each, tf.int32) for each in places], [left.values, right.values]
        ),
        left.row_splits + right.row_splits,
        validate=False,
    )


def _totals(values: tf.Tensor) -> tf.Tensor:
    """The sum of all values before each place, the end included."""
    return tf.concat([tf.zeros([1], values.dtype), tf.cumsum(values)], axis=0)
