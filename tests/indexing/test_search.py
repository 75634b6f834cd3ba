import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.indexes import DIMENSION, Texts, vectors_of

from simcse_tf.core.errors import NotFinite, UserError
from simcse_tf.indexing import search
from simcse_tf.indexing.changes import add, build, remove
from simcse_tf.indexing.index import Index

WORDS = ["rain", "sun", "wind", "snow", "fog", "hail", "frost", "heat"]


def built(place, rows, **options):
    build(str(place), Texts(rows), **options)
    return place


def plain(rows, gone, queries, k, threshold, where):
    """What a search must find, from its description alone."""
    allowed, seen = [], set()
    for number, (_, text, metadata) in enumerate(rows):
        if number in gone or (where and metadata["n"] < where) or text in seen:
            continue
        seen.add(text)
        allowed.append(number)
    vectors = vectors_of([rows[n][1] for n in allowed]).astype(float)
    found = []
    for query in np.asarray(queries, float):
        cosines = vectors @ query / (np.linalg.norm(query) or 1)
        ranked = sorted(
            (-round(float(cosine), 6), number)
            for number, cosine in zip(allowed, cosines, strict=True)
        )
        kept = [(n, -c) for c, n in ranked[:k] if threshold is None or -c >= threshold]
        found.append(kept)
    return found


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    gone=st.sets(st.integers(0, 11)),
    k=st.integers(1, 12),
    threshold=st.none() | st.floats(-1, 1),
    where=st.integers(0, 3),
    exact=st.booleans(),
)
def test_hits_are_those_of_a_plain_search(
    tmp_path_factory, texts, gone, k, threshold, where, exact
):
    rows = [(str(n), text, {"n": n % 4}) for n, text in enumerate(texts)]
    gone = {n for n in gone if n < len(rows) - 1}
    place = built(tmp_path_factory.mktemp("i") / "rows.index", rows)
    if gone:
        remove(str(place), [str(n) for n in gone])
    queries = np.concatenate([3 * vectors_of(["sun", "tide"]), np.zeros((1, 16))])
    hits = Index.open(place).search(
        queries,
        k,
        threshold=threshold,
        where=f"n >= {where}" if where else None,
        exact=exact,
    )
    expected = plain(rows, gone, queries, k, threshold, where)
    assert [[(h.row, h.cosine) for h in each] for each in hits] == expected
    for hit in (hit for each in hits for hit in each):
        assert (hit.id, hit.text, hit.metadata) == rows[hit.row]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """600 rows in a graph of faiss, 20 behind it, and a few of them removed."""
    rows = [(str(n), f"text {n % 500}", {"n": n}) for n in range(600)]
    place = built(tmp_path_factory.mktemp("graph") / "rows.index", rows, kind="hnsw")
    more = [(str(n), f"text {n}", {"n": n}) for n in range(600, 620)]
    add(str(place), lambda manifest: Texts(more))
    remove(str(place), ["3", "100", "605"])
    return place


@pytest.fixture
def faiss_asked(graph, monkeypatch):
    """The index, with faiss asked whatever its size."""
    monkeypatch.setattr(search, "_FEW_ROWS", 0)
    monkeypatch.setattr(search, "_FEW", 0.0)
    monkeypatch.setattr(search, "_MANY_HITS", 0)
    index = Index.open(graph)
    assert index.manifest.candidates.rows == 600
    return index


@pytest.mark.parametrize("where", [None, "n >= 300", "n in (100, 103, 600)"])
def test_what_faiss_proposes_is_ranked_as_exact_search_ranks(faiss_asked, where):
    queries = vectors_of([f"text {n}" for n in (0, 3, 100, 499, 605, 610)])
    hits = faiss_asked.search(queries, 10, where=where, effort=600)
    assert hits == faiss_asked.search(queries, 10, where=where, exact=True)
    assert all(len(each) == (2 if where and "in" in where else 10) for each in hits)


def test_rows_behind_the_graph_are_found_and_removed_ones_are_not(faiss_asked):
    queries = vectors_of(["text 610", "text 605", "text 3", "text 0"])
    tail, removed, second, first = faiss_asked.search(queries, 3)
    assert (tail[0].id, tail[0].cosine) == ("610", 1.0)
    assert removed[0].cosine < 1
    # Of two rows with this text the first was removed.
    assert (second[0].id, second[0].cosine) == ("503", 1.0)
    assert [hit.text for hit in first].count("text 0") == 1
    assert first[0].id == "0"


def test_a_query_that_a_graph_cannot_serve_is_searched_exactly(
    faiss_asked, monkeypatch
):
    searcher = faiss_asked._searcher
    monkeypatch.setattr(
        searcher._candidates,
        "nearest",
        lambda queries, k, **_: np.full((len(queries), k), -1),
    )
    queries = vectors_of(["text 7", "text 8"])
    assert faiss_asked.search(queries, 5) == faiss_asked.search(queries, 5, exact=True)


def test_many_queries_find_what_each_finds_alone(faiss_asked, monkeypatch):
    monkeypatch.setattr(search, "_AT_ONCE", 7)
    queries = vectors_of([f"text {n}" for n in range(40)])
    together = faiss_asked.search(queries, 4)
    assert together == [faiss_asked.search(query[None], 4)[0] for query in queries]


def test_all_rows_can_be_asked_for(graph, monkeypatch):
    index = Index.open(graph)
    # Faiss is not asked.
    monkeypatch.setattr(search, "Candidates", None)
    monkeypatch.setattr(search, "_FEW_ROWS", 0)
    [hits] = index.search(vectors_of(["sun"]), 10**6)
    # 500 texts in the graph and 20 behind it, of which two are gone.
    assert len(hits) == 518
    cosines = [hit.cosine for hit in hits]
    assert cosines == sorted(cosines, reverse=True)


def test_candidates_of_another_index_are_refused(faiss_asked):
    candidates = faiss_asked.manifest.candidates
    other = candidates.model_copy(update={"rows": 599})
    faiss_asked.manifest = faiss_asked.manifest.model_copy(update={"candidates": other})
    with pytest.raises(UserError, match="expected 599 rows of 16 dimensions"):
        faiss_asked.search(vectors_of(["sun"]), 3)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_cosines_are_those_of_the_stored_vectors(tmp_path, dtype):
    place = built(tmp_path / "i", [f"text {n}" for n in range(50)], dtype=dtype)
    index = Index.open(place)
    query = vectors_of(["text 9"])
    hits = index.search(query, 50)[0]
    cosines = (
        index.vectors(np.array([hit.row for hit in hits])).astype(float) @ query[0]
    )
    np.testing.assert_allclose([hit.cosine for hit in hits], cosines, atol=6e-7)
    assert hits[0].row == 9


def test_rows_without_texts_are_not_taken_for_the_same(tmp_path):
    rows = [(str(n), WORDS[n]) for n in range(4)]
    place = tmp_path / "i"
    build(str(place), Texts(rows, has_texts=False))
    assert len(Index.open(place).search(vectors_of(["sun"]), 10)[0]) == 4


@pytest.mark.parametrize(
    ("queries", "k", "options", "message"),
    [
        (np.zeros(DIMENSION), 1, {}, "expected queries of 16 dimensions"),
        (np.zeros((1, 8)), 1, {}, r"received an array of shape \(1, 8\)"),
        (np.zeros((1, DIMENSION)), 0, {}, "k: expected 1 or more, received 0"),
        (np.zeros((1, DIMENSION)), 1, {"effort": 0}, "effort: expected 1 or more"),
        (np.zeros((1, DIMENSION)), 1, {"threshold": np.nan}, "received nan"),
        (np.zeros((1, DIMENSION)), 1, {"where": "x = 1"}, 'no column "x"'),
    ],
)
def test_odd_queries_are_refused(graph, queries, k, options, message):
    with pytest.raises(UserError, match=message):
        Index.open(graph).search(queries, k, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_that_are_not_finite_are_refused(graph, value):
    queries = np.ones((2, DIMENSION))
    queries[1, 3] = value
    with pytest.raises(NotFinite, match="queries, row 2"):
        Index.open(graph).search(queries, 3)


def test_where_nothing_is_there_nothing_is_found(graph, tmp_path):
    index = Index.open(graph)
    assert index.search(np.empty((0, DIMENSION)), 3) == []
    query = vectors_of(["sun"])
    assert index.search(query, 3, where="n > 10000") == [[]]
    assert index.search(query, 3, threshold=1.5) == [[]]
    place = built(tmp_path / "i", ["rain"])
    remove(str(place), ["0"])
    assert Index.open(place).search(query, 3) == [[]]
