import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestNeighbors

from simcse_tf.core.vectors import l2_normalize
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


def plain_top_k(queries, corpus, k):
    """All cosines in float64, sorted; row by row, so that equal rows are equal."""
    queries, corpus = (l2_normalize(x, np.float64) for x in (queries, corpus))
    each = [[float(np.dot(query, row)) for row in corpus] for query in queries]
    cosines = np.round(np.array(each).reshape(len(queries), len(corpus)), 6)
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def spread(random, rows, dim):
    return random.normal(size=(rows, dim)).astype(np.float32)


CORPORA = {
    "any": spread,
    "unit": lambda *size: l2_normalize(spread(*size)),
    "lengths far apart": lambda random, rows, dim: (
        spread(random, rows, dim) * 10.0 ** random.integers(-30, 30, (rows, 1))
    ),
    "beyond float32": lambda random, rows, dim: (
        spread(random, rows, dim) * 10.0 ** random.integers(-120, 120, (rows, 1))
    ),
    "repeated": lambda random, rows, dim: spread(random, 1 + rows // 7, dim)[
        random.integers(0, 1 + rows // 7, rows)
    ],
    "nearly the same": lambda random, rows, dim: (
        1 + 3e-4 * random.normal(size=(rows, dim))
    ),
    "all the same": lambda random, rows, dim: np.ones((rows, dim), np.float16),
    "whole numbers": lambda random, rows, dim: random.integers(
        -2, 3, (rows, dim)
    ).astype(np.int8),
}


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize(("at_once", "first", "queries_at_once"), [
    (2**23, 1024, 1024),
    (60, 4, 2),
])  # fmt: skip
def test_top_k_is_exact_whatever_float32_makes_of_it(
    corpus, at_once, first, queries_at_once, monkeypatch
):
    monkeypatch.setattr(exact, "_AT_ONCE", at_once)
    monkeypatch.setattr(exact, "_FIRST_ROWS", first)
    monkeypatch.setattr(exact, "_QUERIES_AT_ONCE", queries_at_once)
    random = np.random.default_rng(5)
    for rows, dim, k in [(1, 1, 1), (40, 3, 7), (300, 24, 10), (90, 5, 200)]:
        vectors = CORPORA[corpus](random, rows, dim)
        queries = np.concatenate([CORPORA[corpus](random, 3, dim), vectors[:2]])
        found, expected = (
            exact.top_k(queries, vectors, k),
            plain_top_k(queries, vectors, k),
        )
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_no_candidate_is_lost_to_float32s_last_bits():
    """Cosines a few units of float32 apart, which float64 tells apart."""
    random = np.random.default_rng(0)
    query = l2_normalize(random.normal(size=(1, 384)), np.float64)
    across = l2_normalize(random.normal(size=(4000, 384)), np.float64)
    across -= (across @ query.T) * query
    angles = np.arccos(0.8 + 1e-7 * (random.permutation(4000) + 0.3))[:, None]
    vectors = np.cos(angles) * query + np.sin(angles) * l2_normalize(across, np.float64)
    rows, cosines = exact.top_k(query, vectors, 50)
    expected = plain_top_k(query, vectors, 50)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(cosines, expected[1])


def test_pairs_that_others_propose_are_ranked_with_all_the_rest():
    random = np.random.default_rng(0)
    queries, corpus = spread(random, 5, 8), l2_normalize(spread(random, 60, 8))
    proposed = np.stack([random.permutation(40)[:12] for _ in queries])
    nearest = exact.Nearest(queries, 6)
    which = np.repeat(np.arange(5), 12)
    nearest.add_pairs(which, corpus[proposed.ravel()], proposed.ravel())
    nearest.add(corpus[40:], np.arange(40, 60))
    for query, rows, found in zip(queries, proposed, nearest.rows, strict=True):
        allowed = np.sort(np.append(rows, np.arange(40, 60)))
        best = plain_top_k(query[None], corpus[allowed], 6)[0]
        assert found.tolist() == allowed[best[0]].tolist()


def test_where_there_are_fewer_rows_the_rest_is_marked():
    nearest = exact.Nearest(np.eye(2), 3)
    nearest.add(np.eye(2), np.array([4, 9]))
    assert nearest.rows.tolist() == [[4, 9, -1], [9, 4, -1]]
    assert nearest.cosines[:, 2].tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("queries", [1, 300])
def test_memory_does_not_grow_with_the_corpus(queries):
    import tracemalloc

    random = np.random.default_rng(0)
    few, corpus = spread(random, queries, 32), spread(random, 200_000, 32)
    tracemalloc.start()
    exact.top_k(few, corpus, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The scores at a time, and which of them count.
    assert peak < 100e6


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
