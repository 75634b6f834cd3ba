"""Operations on ragged tensors that several tokenizers need."""

import tensorflow as tf


def first_of_rows(ragged: tf.RaggedTensor) -> tf.Tensor:
    """Whether each value is the first of its row, as a bool tensor."""
    row = ragged.value_rowids()
    return tf.concat([[True], row[1:] != row[:-1]], axis=0)[: tf.size(row)]


def kept(ragged: tf.RaggedTensor, is_kept: tf.Tensor) -> tf.RaggedTensor:
    """The values of each row for which a flat bool tensor says so."""
    return tf.ragged.boolean_mask(ragged, ragged.with_values(is_kept))


def of_row(ragged: tf.RaggedTensor, values: tf.Tensor) -> tf.Tensor:
    """For each value, what a tensor holds for its row."""
    return tf.gather(values, ragged.value_rowids())
