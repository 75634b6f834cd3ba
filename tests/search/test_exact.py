import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestNeighbors

from simcse_tf.evaluation import sts
from simcse_tf.search import exact


@pytest.mark.parametrize("at_once", [1, 500, 2**23])
def test_top_k_equals_scikit_learns_brute_force_search(at_once, monkeypatch):
    monkeypatch.setattr(exact, "_AT_ONCE", at_once)
    random = np.random.default_rng(0)
    queries = random.normal(size=(7, 16)).astype(np.float32)
    corpus = random.normal(size=(300, 16)) * random.uniform(0.1, 9, (300, 1))
    indices, cosines = exact.top_k(queries, corpus, 5)
    reference = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute")
    distances, neighbours = reference.fit(corpus).kneighbors(queries.astype(float))
    np.testing.assert_array_equal(indices, neighbours)
    np.testing.assert_allclose(cosines, 1 - distances, rtol=0, atol=5.1e-7)


small_integers = st.integers(-2, 2).map(float)


@settings(max_examples=60, deadline=None)
@given(
    queries=hnp.arrays(float, (3, 4), elements=small_integers),
    corpus=hnp.arrays(float, st.tuples(st.integers(1, 12), st.just(4)),
                      elements=small_integers),
    k=st.integers(1, 15),
    at_once=st.integers(1, 40),
)  # fmt: skip
def test_ties_keep_the_order_of_the_corpus_whatever_the_parts(
    queries, corpus, k, at_once
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_AT_ONCE", at_once)
        indices, cosines = exact.top_k(queries, corpus, k)
    for query, found, values in zip(queries, indices, cosines, strict=True):
        cosine = sts.cosine_similarity(np.broadcast_to(query, corpus.shape), corpus)
        ranked = sorted(range(len(corpus)), key=lambda i: (-round(cosine[i], 6), i))
        assert found.tolist() == ranked[:k]
        np.testing.assert_allclose(values, cosine[found], rtol=0, atol=5.1e-7)


def test_a_zero_vector_is_similar_to_nothing():
    indices, cosines = exact.top_k([[0.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]], 2)
    assert indices.tolist() == [[0, 1]]
    assert cosines.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("queries", "corpus", "k"),
    [([1.0], [[1.0]], 1), ([[1.0]], [[1.0, 2.0]], 1), ([[1.0]], [[1.0]], 0)],
)
def test_top_k_refuses_other_shapes(queries, corpus, k):
    with pytest.raises(ValueError, match="Received"):
        exact.top_k(queries, corpus, k)


def test_vectors_that_are_not_finite_are_refused():
    rows = np.eye(3)
    broken = np.where(rows == 1, np.nan, rows)
    with pytest.raises(ValueError, match="queries, row 1: expected finite"):
        exact.top_k(broken, rows, 1)
    with pytest.raises(ValueError, match="corpus, row 1: expected finite"):
        exact.top_k(rows, broken, 1)
