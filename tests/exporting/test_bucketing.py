import functools
import threading

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf import SimCSE
from simcse_tf.exporting.bucketing import MAX_PADDING, MAX_TOKENS, embed_in_buckets
from simcse_tf.exporting.served_embedder import embedder


def ragged(lengths):
    """Row `i` holds `lengths[i]` times the number `i`."""
    values = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return tf.RaggedTensor.from_row_lengths(values, np.array(lengths, np.int64))


def buckets_of(lengths, **limits):
    """Each row's own number, its bucket's number of rows and its longest row."""
    return traced(**limits)(ragged(lengths)).numpy().astype(int)


@functools.cache
def traced(**limits):
    """One trace for all lengths, as in an export."""

    def embed(tokens):
        rows = tf.cast(tokens.nrows(), tf.int32)
        longest = tf.cast(tokens.bounding_shape()[1], tf.int32)
        own = tf.reduce_max(tokens, axis=1)
        return tf.cast(
            tf.stack([own, tf.fill([rows], rows), tf.fill([rows], longest)], 1),
            tf.float32,
        )

    spec = tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)
    return tf.function(
        lambda tokens: embed_in_buckets(embed, tokens, 3, **limits),
        input_signature=[spec],
    )


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 600), max_size=40))
def test_rows_keep_their_order_and_buckets_their_limits(lengths):
    result = buckets_of(lengths)
    assert result.shape == (len(lengths), 3)
    np.testing.assert_array_equal(result[:, 0], np.arange(len(lengths)))
    padding = {}
    for length, (_, rows, longest) in zip(lengths, result, strict=True):
        assert length <= longest
        assert rows == 1 or rows * longest <= MAX_TOKENS
        if rows * longest <= MAX_TOKENS:
            padding.setdefault((rows, longest), []).append(longest - length)
    # Several buckets may have the same shape; none may have more padding than allowed.
    for (rows, _), missing in padding.items():
        assert len(missing) % rows == 0
        assert sum(missing) <= MAX_PADDING * len(missing) / rows


def test_similar_lengths_go_together_and_others_do_not():
    result = buckets_of([5, 100, 6, 100, 5])
    assert result[:, 1].tolist() == [3, 2, 3, 2, 3]
    assert result[:, 2].tolist() == [6, 100, 6, 100, 6]


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({"max_padding": 0}, [1, 2, 2, 1]),
        ({"max_padding": 5}, [1, 3, 3, 3]),
        ({"max_padding": 1000}, [4, 4, 4, 4]),
        ({"max_padding": 1000, "max_tokens": 30}, [1, 3, 3, 3]),
        ({"max_tokens": 1}, [1, 1, 1, 1]),
    ],
)
def test_limits_decide_the_buckets(limits, rows):
    assert buckets_of([4, 10, 10, 5], **limits)[:, 1].tolist() == rows


def test_no_rows_give_no_rows():
    assert buckets_of([]).shape == (0, 3)


def test_buckets_run_side_by_side():
    met = threading.Barrier(2)

    def wait(rows):
        met.wait(timeout=20)
        return np.zeros([rows, 1], np.float32)

    # A call of its own, as in an export.
    @tf.function(
        input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)],
        experimental_attributes={"_noinline": True},
    )
    def embed(tokens):
        rows = tf.cast(tokens.nrows(), tf.int32)
        zeros = tf.numpy_function(wait, [rows], tf.float32, stateful=False)
        return tf.ensure_shape(zeros, [None, 1])

    run = tf.function(lambda tokens: embed_in_buckets(embed, tokens, 1))
    assert run(ragged([5, 100])).shape == (2, 1)


def test_a_bucket_of_an_export_reads_no_variable(tiny_preset):
    # TensorFlow runs what reads variables one after the other.
    model = SimCSE.from_preset(str(tiny_preset))
    asked = tf.function(embedder(model)).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    functions = asked.graph.as_graph_def().library.function
    [bucket] = [each for each in functions if "pooled" in each.signature.name]
    operations = {node.op for node in bucket.node_def}
    assert "MatMul" in operations
    assert "ReadVariableOp" not in operations
