"""The signature `search`: what it finds, and what a server may merge."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from support.indexes import Texts
from support.searching import (
    TEXTS,
    Searchable,
    embed,
    embedded,
    export_searchable,
    rows_of_texts,
)

from simcse_tf.client.protocol import LARGEST_K, NO_HIT
from simcse_tf.core.errors import UserError
from simcse_tf.exporting.check_search import compare_hits
from simcse_tf.exporting.index_rows import rows_of
from simcse_tf.exporting.search_signature import SearchSignature
from simcse_tf.indexing.changes import add, build, remove
from simcse_tf.indexing.index import Index
from simcse_tf.search.exact import top_k


@pytest.fixture(scope="module")
def search():
    model = Searchable(rows_of_texts())

    def search(texts, k):
        answer = model.search(tf.constant(texts, tf.string), tf.constant(k, tf.int32))
        return {name: values.numpy() for name, values in answer.items()}

    return search


def test_hits_are_those_of_exact_search(search):
    texts = [*TEXTS[:5], "something else", TEXTS[-1]]
    found = search(texts, [3] * len(texts))
    rows, cosines = top_k(embed(tf.constant(texts)), embed(tf.constant(TEXTS)), 3)
    assert found["ids"].tolist() == [[b"id %d" % n for n in row] for row in rows]
    assert found["texts"].tolist() == [[TEXTS[n].encode() for n in row] for row in rows]
    np.testing.assert_array_equal(found["cosines"], cosines.astype(np.float32))
    assert json.loads(found["metadata"][0, 0]) == {"length": len(TEXTS[0])}


def test_what_is_merged_changes_no_hit(search):
    texts, k = ["a", "b", "a", "c"], [2, 5, 1, 0]
    together = search(texts, k)
    assert together["cosines"].shape == (4, 5)
    for row, (text, own) in enumerate(zip(texts, k, strict=True)):
        alone = search([text], [own])
        for name, values in together.items():
            assert values[row, :own].tolist() == alone[name][0].tolist()
            filler = NO_HIT if name == "cosines" else b""
            assert (values[row, own:] == filler).all()


@pytest.mark.parametrize(
    ("k", "width", "hits"),
    [(0, 0, 0), (-3, 0, 0), (60, 60, len(TEXTS)), (2**31 - 1, LARGEST_K, len(TEXTS))],
)
def test_every_k_has_an_answer(search, k, width, hits):
    found = search(["a"], [k])
    assert found["ids"].shape == (1, width)
    assert (found["cosines"][0, :hits] > NO_HIT).all()
    assert (found["cosines"][0, hits:] == NO_HIT).all()
    assert (found["ids"][0, hits:] == b"").all()


def test_no_texts_have_no_hits(search):
    assert all(each.shape == (0, 0) for each in search([], []).values())


def test_as_many_ks_as_texts_are_needed(search):
    for texts, k in ((["a"], [1, 2]), (["a", "b", "c"], [1, 2])):
        with pytest.raises(tf.errors.InvalidArgumentError):
            search(texts, k)


@pytest.mark.slow
def test_tensorflow_1_finds_the_same(search, tmp_path):
    path = export_searchable(tmp_path / "1")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = graph.signature_def["search"]
        inputs = {key: info.name for key, info in signature.inputs.items()}
        found = session.run(
            {key: info.name for key, info in signature.outputs.items()},
            {inputs["text"]: ["a", "b"], inputs["k"]: [4, 2]},
        )
    expected = search(["a", "b"], [4, 2])
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_the_example_is_what_the_graph_answers():
    rows = rows_of_texts(TEXTS[:7])
    signature = SearchSignature(rows, None)
    function, _ = signature.function(embedded)
    texts = [b"a", b"b", b"", b"a"]
    inputs, expected = signature.example(texts, embedded(texts))
    answer = function(*map(tf.constant, inputs.values()))
    received = {name: values.numpy() for name, values in answer.items()}
    assert compare_hits(received, expected, tolerance=1e-6) < 1e-6
    assert expected["cosines"].shape == (4, 10)  # more than there are rows


def test_a_truncated_index_is_searched_with_as_many_dimensions():
    rows = rows_of_texts()
    short = replace(
        rows,
        vectors=rows.vectors[:, :4],
        about=rows.about.model_copy(update={"dimensions": 4}),
    )
    found = Searchable(short).search(tf.constant(["a"]), tf.constant([5]))
    queries = embed(tf.constant(["a"])).numpy()[:, :4]
    expected, _ = top_k(queries, rows.vectors[:, :4], 5)
    assert found["ids"].numpy()[0].tolist() == [b"id %d" % n for n in expected[0]]


# What is read from an index


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_rows_are_the_first_of_each_text_that_was_not_removed(
    tmp_path, monkeypatch, dtype
):
    monkeypatch.chdir(tmp_path)
    texts = ["b", "a", "b", "c", "a"]
    build("i", Texts([(f"{n}", text) for n, text in enumerate(texts)]), dtype=dtype)
    add("i", lambda manifest: Texts([("5", "d"), ("6", "c")]))
    remove("i", ["0", "3"])
    index = Index.open("i")
    rows = rows_of(index)
    assert rows.ids.tolist() == [b"1", b"2", b"5", b"6"]
    assert rows.texts.tolist() == [b"a", b"b", b"d", b"c"]
    assert rows.metadata is None
    kept = rows.vectors.astype(np.float32)
    np.testing.assert_allclose(
        kept / np.linalg.norm(kept, axis=1, keepdims=True),
        index.vectors(np.array([1, 2, 5, 6])),
        atol=1e-6,
    )
    assert (rows.vectors.dtype.name, rows.about.vectors) == (dtype, dtype)
    assert (rows.about.rows, rows.about.dimensions) == (4, 16)


def test_rows_without_texts_are_all_different(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build("i", Texts(["a", "a", "b"], has_texts=False))
    rows = rows_of(Index.open("i"))
    assert rows.ids.tolist() == [b"0", b"1", b"2"]
    assert rows.texts.tolist() == [b"", b"", b""]


def test_an_index_that_cannot_be_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build("i", Texts(["a", "b"]))
    before = Index.open("i")
    remove("i", ["0", "1"])
    with pytest.raises(UserError, match="i has changed meanwhile: try again"):
        rows_of(before)
    with pytest.raises(UserError, match="i has no rows: expected one or more"):
        rows_of(Index.open("i"))


# What a check compares


def answer(ids, cosines):
    strings = np.array([[id.encode() for id in ids]], object)
    return {
        "ids": strings,
        "texts": strings,
        "cosines": np.array([cosines], np.float32),
    }


RECORDED = answer(["a", "b", "c", ""], [0.9, 0.8, 0.800001, NO_HIT])


def test_rows_that_are_as_near_may_change_places():
    other = answer(["a", "c", "b", ""], [0.900001, 0.800001, 0.8, NO_HIT])
    assert compare_hits(other, RECORDED, 1e-5) == pytest.approx(1e-6, abs=1e-7)
    # What is beyond the last was not recorded.
    assert (
        compare_hits(
            answer(["a", "b", "d", ""], RECORDED["cosines"][0]), RECORDED, 1e-5
        )
        == 0
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            answer(["x", "b", "c", ""], [0.9, 0.8, 0.800001, NO_HIT]),
            "found b'x' where b'a'",
        ),
        (
            answer(["a", "b", "c", ""], [0.91, 0.8, 0.800001, NO_HIT]),
            "differ from the recorded ones by 0.01",
        ),
        (
            answer(["a", "b", "c", "d"], [0.9, 0.8, 0.800001, NO_HIT]),
            "found b'd' where b''",
        ),
        (answer(["a", "b", "c"], [0.9, 0.8, 0.800001]), r"expected the shape \(1, 4\)"),
        ({}, "expected .'cosines', 'ids', 'texts'., received"),
        (answer(["a", "b", "c", ""], [np.nan, 0.8, 0.800001, NO_HIT]), "differ"),
    ],
    ids=["row", "cosine", "filler", "shape", "outputs", "no number"],
)
def test_another_answer_is_refused(other, message):
    with pytest.raises(UserError, match=message):
        compare_hits(other, RECORDED, 1e-5)
