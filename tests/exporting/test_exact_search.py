"""Exact search in the graph against exact search with NumPy."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.exporting import exact_search
from simcse_tf.exporting.exact_search import ExactSearch
from simcse_tf.quantization import encode_int8
from simcse_tf.search.exact import top_k

STORED = {
    "float32": np.asarray,
    "bfloat16": lambda rows: rows.astype(ml_dtypes.bfloat16),
    "int8": encode_int8,
}


def unit_rows(rows, dim, seed=0):
    random = np.random.default_rng(seed)
    return l2_normalize(random.standard_normal((rows, dim)))


def traced(vectors):
    search = ExactSearch(vectors)
    types = [tf.TensorSpec([None, vectors.shape[1]]), tf.TensorSpec([], tf.int32)]
    function = tf.function(search, input_signature=types)
    return lambda queries, k: [each.numpy() for each in function(queries, k)]


def assert_same(search, vectors, queries, k):
    cosines, rows = search(queries, k)
    expected_rows, expected = top_k(queries, vectors.astype(np.float32), k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(cosines, expected, rtol=0, atol=1e-15)


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks of rows, and groups of queries."""
    monkeypatch.setattr(exact_search, "_COMPONENTS", 2**11)


@pytest.mark.parametrize("dtype", STORED)
def test_neighbours_are_those_of_exact_search(dtype, small_blocks):
    vectors = STORED[dtype](unit_rows(1000, 24))
    search = traced(vectors)
    queries = unit_rows(300, 24, seed=1) * 3
    for n, k in ((1, 1), (300, 10), (7, 200), (2, 5000)):
        assert_same(search, vectors, queries[:n], k)
    cosines, rows = search(queries[:0], 3)
    assert cosines.shape == rows.shape == (0, 3)


def test_rows_as_near_as_each_other_come_in_order(small_blocks):
    vectors = unit_rows(1000, 24)
    # More than there are candidates, so that all rows have to be scored again.
    vectors[100:400] = vectors[5]
    # Apart in float32, and equal to six decimals.
    vectors[500:700] = l2_normalize(vectors[7] + 1e-7 * unit_rows(200, 24, seed=2))
    vectors[900] = 0
    search = traced(vectors)
    queries = np.stack([vectors[5], vectors[7], vectors[50], np.zeros(24, np.float32)])
    for k in (1, 10, 250):
        assert_same(search, vectors, queries, k)
    assert search(queries[:1], 3)[1].tolist() == [[5, 100, 101]]


def test_no_row_is_missed_where_float32_orders_wrongly(small_blocks):
    # All cosines within float32's error of a sum: candidates alone could be any.
    query = unit_rows(1, 24, seed=3)
    vectors = l2_normalize(query + 3e-6 * unit_rows(1000, 24))
    assert_same(traced(vectors), vectors, query, 10)


def test_few_rows_are_all_there_is(small_blocks):
    vectors = unit_rows(3, 8)
    assert_same(traced(vectors), vectors, unit_rows(5, 8, seed=1), 10)


@pytest.mark.attack
def test_ten_thousand_queries():
    vectors = unit_rows(20_000, 64)
    search = traced(vectors)
    queries = l2_normalize(vectors[:10_000] + 0.1 * unit_rows(10_000, 64, seed=1))
    # As many at a time as a server merges.
    for first in range(0, len(queries), 64):
        assert_same(search, vectors, queries[first : first + 64], 10)
