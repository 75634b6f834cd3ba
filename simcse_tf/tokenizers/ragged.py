"""Operations on ragged tensors that several tokenizers need."""

import tensorflow as tf


def first_of_rows(ragged: tf.RaggedTensor) -> tf.Tensor:
    """Whether each value is the first of its row, as a bool tensor."""
    row = ragged.value_rowids()
    return tf.concat([[True], row[1:] != row[:-1]], axis=0)[: tf.size(row)]
