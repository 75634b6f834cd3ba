import sys

import numpy as np
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.indexing import candidates
from simcse_tf.indexing.candidates import Candidates, build, kind_for, parameters_for

DIMENSION = 16


def clustered(rows):
    random = np.random.default_rng(0)
    centers = random.normal(size=(rows // 20, DIMENSION))
    near = np.repeat(centers, 20, axis=0) + random.normal(0, 0.5, (rows, DIMENSION))
    return l2_normalize(near)


def written(path, vectors, kind, rows=None, **parameters):
    rows = len(vectors) if rows is None else rows
    parameters = {**parameters_for(kind, rows, DIMENSION), **parameters}

    def blocks(at_once):
        for first in range(0, len(vectors), at_once):
            yield first, vectors[first : first + at_once]

    build(path, blocks, rows, kind, parameters)
    return Candidates(path, kind, parameters)


def recall(found, vectors, queries, k=10):
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    pairs = zip(best, found, strict=True)
    return np.mean([np.isin(one, other).mean() for one, other in pairs])


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(0, "flat"), (99_999, "flat"), (100_000, "hnsw"), (500_000, "ivfpq")],
)
def test_the_kind_follows_from_the_rows(rows, kind):
    assert kind_for(rows) == kind


def test_a_graph_proposes_the_nearest_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "_AT_ONCE", 700)
    vectors = clustered(2000)
    graph = written(tmp_path / "a", vectors, "hnsw", rows=1500)
    assert graph.rows == 1500
    found = graph.nearest(vectors[:100], 10)
    assert recall(found, vectors[:1500], vectors[:100]) > 0.98
    assert found.max() < 1500
    allowed = np.arange(1500) % 2 == 0
    found = graph.nearest(vectors[:100], 10, allowed=allowed, effort=200)
    assert (found % 2 == 0).all()


def test_the_same_vectors_and_seed_give_the_same_file(tmp_path):
    vectors = clustered(600)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        written(tmp_path / name, vectors, "hnsw", seed=seed)
    files = [(tmp_path / name).read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


@pytest.mark.slow
def test_lists_propose_the_nearest_and_are_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "_AT_ONCE", 3000)
    vectors = clustered(10_000)
    settings = {"lists": 16, "bytes": 4}
    lists = written(tmp_path / "a", vectors, "ivfpq", **settings)
    assert recall(lists.nearest(vectors[:100], 10), vectors, vectors[:100]) > 0.9
    few = lists.nearest(vectors[:100], 10, effort=1)
    assert recall(few, vectors, vectors[:100]) < 0.9
    allowed = np.arange(len(vectors)) < 30
    found = lists.nearest(vectors[:5], 10, allowed=allowed, effort=16)
    assert set(found[found >= 0]) <= set(range(30))
    written(tmp_path / "b", vectors, "ivfpq", **settings)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_too_few_rows_and_other_kinds_are_refused():
    with pytest.raises(UserError, match="ivfpq learns from 9984 rows or more"):
        candidates.check_kind("ivfpq", 100)
    with pytest.raises(UserError, match="expected one of flat, hnsw, ivfpq"):
        candidates.check_kind("annoy", 100)


def test_without_faiss_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(
        "simcse_tf.core.extras.find_spec", lambda name: None, raising=True
    )
    candidates.check_kind("flat", 100)
    with pytest.raises(UserError, match=r'pip install "simcse-tf\[search\]"'):
        candidates.check_kind("hnsw", 100)


def test_a_file_that_faiss_cannot_read_is_told(tmp_path):
    (tmp_path / "a").write_bytes(b"no index")
    with pytest.raises(UserError, match="faiss cannot read it"):
        Candidates(tmp_path / "a", "hnsw", parameters_for("hnsw", 1, DIMENSION))


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="faiss"):
        written(tmp_path / "missing" / "a", clustered(40), "hnsw")


@pytest.mark.parametrize(("dimension", "expected"), [(384, 96), (64, 16), (7, 1)])
def test_a_code_has_a_byte_for_some_dimensions(dimension, expected):
    assert parameters_for("ivfpq", 10**6, dimension)["bytes"] == expected
