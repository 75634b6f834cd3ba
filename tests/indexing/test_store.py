import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.indexes import DIMENSION, Texts, vectors_of

from simcse_tf.core.errors import NotFinite, UserError
from simcse_tf.encoding.records import FileRecords
from simcse_tf.indexing import changes, parts
from simcse_tf.indexing.changes import add, build, remove
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.manifest import read_manifest

ROWS = [
    ("a", "A man plays.", {"stars": 5, "fresh": True}),
    ("b", "", {"stars": 4.5}),
    ("c", "Zürich 🙂", {"note": "x"}),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The machine lives on: nothing has to wait for its disk.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return tmp_path


def everything(index):
    """What an index says of its live rows, by id."""
    rows = np.flatnonzero(index.live)
    values = (index.texts(rows), index.metadata(rows), index.vectors(rows))
    found = dict(zip(index.ids(rows), zip(*values, strict=True), strict=True))
    assert len(found) == len(rows) == index.manifest.live_rows
    return found


def test_an_index_gives_back_what_was_put_in(place):
    assert build("i", Texts(ROWS)).rows == 3
    index = Index.open("i")
    assert (index.rows, index.dimension, index.live.tolist()) == (3, 16, [True] * 3)
    assert index.manifest.columns == {
        "stars": "float",
        "fresh": "bool",
        "note": "string",
    }
    rows = np.array([2, 0, 2])
    assert index.ids(rows) == ["c", "a", "c"]
    assert index.texts(rows) == ["Zürich 🙂", "A man plays.", "Zürich 🙂"]
    none = {"stars": None, "fresh": None, "note": None}
    last = {**none, "note": "x"}
    assert index.metadata(rows) == [last, {**none, "stars": 5.0, "fresh": True}, last]
    expected = vectors_of([text for _, text, _ in ROWS])
    np.testing.assert_array_equal(index.vectors(rows), expected[rows])
    np.testing.assert_array_equal(
        np.concatenate([b for _, b in index.blocks(2)]), expected
    )
    assert [first for first, _ in index.blocks(2)] == [0, 2]
    empty = np.array([], np.int64)
    assert index.ids(empty) == index.metadata(empty) == []
    assert index.vectors(empty).shape == (0, 16)
    for outside in (3, -1):
        with pytest.raises(IndexError):
            index.ids([outside])


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 4e-3), ("int8", 1e-2)])
def test_smaller_embeddings_are_near_the_whole_ones_and_of_unit_length(
    place, dtype, error
):
    texts = [f"text {n}" for n in range(50)]
    build("i", Texts(texts), dtype=dtype)
    found = Index.open("i").vectors(np.arange(50))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found.dtype == np.float32
    difference = np.abs(found - vectors_of(texts)).max()
    assert 0 < difference < error


IDS = st.sampled_from("abcdef")
CHANGES = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["add", "replace"]),
            st.dictionaries(IDS, st.text("xyz", max_size=2), max_size=4),
        ),
        st.tuples(st.just("remove"), st.lists(IDS, max_size=3)),
    ),
    max_size=6,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    start=st.dictionaries(IDS, st.text("xyz", max_size=2), min_size=1, max_size=4),
    changes=CHANGES,
)
def test_any_changes_leave_what_they_leave_in_a_dictionary(place, start, changes):
    build("i", Texts(start.items()), replace=True)
    plain = dict(start)
    for what, rows in changes:
        generation = read_manifest(place / "i").generation
        if what == "remove":
            if set(rows) <= plain.keys():
                remove("i", rows)
                plain = {id: text for id, text in plain.items() if id not in rows}
                continue
            with pytest.raises(UserError, match="nothing was removed"):
                remove("i", rows)
        elif what == "add" and plain.keys() & rows.keys():
            with pytest.raises(UserError, match="in the index already, such as"):
                add("i", lambda _, rows=rows: Texts(rows.items()))
        else:
            add(
                "i", lambda _, rows=rows: Texts(rows.items()), replace=what == "replace"
            )
            plain.update(rows)
            continue
        assert read_manifest(place / "i").generation == generation
    found = everything(Index.open("i"))
    assert {id: text for id, (text, _, _) in found.items()} == plain
    for text, _, vector in found.values():
        np.testing.assert_array_equal(vector, vectors_of([text])[0])


VALUES = st.one_of(
    st.none(), st.text(max_size=4), st.integers(-(2**63), 2**63 - 1), st.booleans()
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.dictionaries(
        st.text(min_size=1, max_size=3), st.tuples(st.text(), VALUES), min_size=1
    ),
    column=st.sampled_from(["id", "text", "metadata.x", "embedding", "ä"]),
)
def test_any_rows_of_a_file_come_back(place, rows, column):
    kinds = {type(value) for _, value in rows.values()} - {type(None)}
    lines = [
        json.dumps({"key": id, "body": text, column: value})
        for id, (text, value) in rows.items()
    ]
    (place / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    source = Texts([(id, text) for id, (text, _) in rows.items()])
    records = FileRecords("rows.jsonl", text="body", id="key")
    source.records = lambda: iter(records)
    if len(kinds) > 1:
        with pytest.raises(UserError, match="as in the rows before, received"):
            build("i", source, replace=True)
        return
    build("i", source, replace=True)
    found = everything(Index.open("i"))
    assert {id: text for id, (text, _, _) in found.items()} == {
        id: text for id, (text, _) in rows.items()
    }
    for id, (_, metadata, _) in found.items():
        assert metadata == ({column: rows[id][1]} if kinds else {})


def test_an_open_index_stays_as_it_was(place):
    build("i", Texts(["one", "two"]))
    index = Index.open("i")
    add("i", lambda _: Texts([("0", "other"), ("2", "three")]), replace=True)
    remove("i", ["1"])
    build("i", Texts([("9", "nine")]), replace=True)
    assert [text for text, _, _ in everything(index).values()] == ["one", "two"]
    assert [*everything(Index.open("i"))] == ["9"]
    # What was there before goes when the next writer comes.
    remove("i", ["9"])
    assert len([*(place / "i" / "segments").iterdir()]) == 1
    assert everything(Index.open("i")) == {}


def test_columns_keep_their_type(place):
    build("i", Texts([("a", "x", {"year": 1999, "zip": "01067"})]))

    def added(**metadata):
        return lambda _: Texts([("b", "y", metadata)], name="new.jsonl")

    with pytest.raises(
        UserError, match="new.jsonl, row 1: expected int in year, as in"
    ):
        add("i", added(year="1999"))
    with pytest.raises(UserError, match="expected string in zip"):
        add("i", added(zip=1067))
    with pytest.raises(UserError, match="expected int in year, .* received true"):
        add("i", added(year=True))
    add("i", added(year=2000.5, lang="en", none=None))
    index = Index.open("i")
    assert index.manifest.columns == {
        "year": "float",
        "zip": "string",
        "lang": "string",
    }
    assert index.metadata([0, 1]) == [
        {"year": 1999.0, "zip": "01067", "lang": None},
        {"year": 2000.5, "zip": None, "lang": "en"},
    ]


def test_texts_of_a_csv_file_that_are_all_numbers_are_numbers(place):
    rows = [
        ("a", "x", {"year": "1999", "zip": "01067", "price": "1", "word": "true"}),
        ("b", "y", {"year": "", "zip": "10115", "price": "2.50", "word": ""}),
    ]
    source = Texts(rows)
    source.untyped = True
    build("i", source)
    index = Index.open("i")
    assert index.manifest.columns == {
        "year": "int", "zip": "string", "price": "float", "word": "string",
    }  # fmt: skip
    assert index.metadata([0, 1]) == [
        {"year": 1999, "zip": "01067", "price": 1.0, "word": "true"},
        {"year": None, "zip": "10115", "price": 2.5, "word": ""},
    ]


def test_rows_without_ids_are_counted_on(place):
    def source(texts):
        rows = Texts(texts)
        rows.ids_given = False
        return rows

    build("i", source(["a", "b"]))
    remove("i", ["0"])
    add("i", lambda _: source(["c"]))
    assert [*everything(Index.open("i"))] == ["1", "2"]
    with pytest.raises(UserError, match="expected rows without ids, which are counted"):
        add("i", lambda _: Texts(["c"]))


def test_an_index_without_texts_has_empty_ones(place):
    build("i", Texts(["a", "b"], has_texts=False))
    index = Index.open("i")
    assert (index.texts([0, 1]), index.ids([1])) == (["", ""], ["1"])
    with pytest.raises(UserError, match="expected rows without texts"):
        add("i", lambda _: Texts([("c", "c")]))


def test_rows_of_another_model_are_refused(place):
    build("i", Texts(["a"]))
    for origin, message in {
        ("model", "other"): None,
        (
            "fingerprint",
            "0" * 64,
        ): r"i was built with hash \(fingerprint ffffffffffff\), "
        r"and new is embedded with hash \(fingerprint 000000000000\)",
        ("dimension", 8): "i has the dimension 16, and new 8",
    }.items():
        source = Texts([("b", "b")], name="new", **dict([origin]))
        if message is None:
            # It may be called otherwise: the fingerprint tells.
            add("i", lambda _, source=source: source)
            continue
        with pytest.raises(UserError, match=message):
            add("i", lambda _, source=source: source)
    assert Index.open("i").rows == 2


def test_nothing_is_written_for_a_mistake(place):
    with pytest.raises(UserError, match="rows holds no text, expected one a line"):
        build("i", Texts([]))
    with pytest.raises(UserError, match='rows 1 and 3 both have the id "x"'):
        build("i", Texts([("x", "a"), ("y", "b"), ("x", "c")]))
    with pytest.raises(UserError, match="--kind: ivfpq learns from"):
        build("i", Texts(["a"]), kind="ivfpq")
    assert [*place.iterdir()] == []
    build("i", Texts(["a"]))
    with pytest.raises(UserError, match="--index: i is an index of 1 rows already"):
        build("i", Texts(["b"]))
    (place / "mine").mkdir()
    (place / "mine" / "thesis.tex").touch()
    with pytest.raises(
        UserError, match=r"mine holds thesis.tex: expected an index, an"
    ):
        build("mine", Texts(["b"]), replace=True)
    with pytest.raises(UserError, match="1 ids are in the index already"):
        add("i", lambda _: Texts(["b"]))
    assert [path.name for path in (place / "i/segments").iterdir()] == ["000001"]
    assert add("i", lambda _: Texts([])).rows == 0
    assert read_manifest(place / "i").generation == 1


def test_an_embedding_that_is_not_finite_ends_the_build(place):
    class Broken(Texts):
        def embeddings(self, texts, start, rows, advance):
            raise NotFinite("embeddings, row 1: expected finite numbers, received nan")
            yield

    with pytest.raises(NotFinite):
        build("i", Broken(["a"]))
    assert not (place / "i").exists()


class Stopping(Texts):
    """A source that ends like a process that is killed."""

    def embeddings(self, texts, start, rows, advance):
        self.started_at = start
        yield from super().embeddings(texts, start, rows, advance)


def killed_before_the_manifest(monkeypatch, source):
    class Killed(BaseException):
        pass

    def kill(place, manifest):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(changes, "write_manifest", kill)
        build("i", source)


def test_whole_embeddings_are_kept_for_the_same_build_alone(place, monkeypatch):
    one = [("a", "x"), ("b", "y")]
    other = [("a", "x"), ("b", "z")]
    for rows in (one, other, one):
        killed_before_the_manifest(monkeypatch, Stopping(rows))
        # A kill between the second one's embeddings and what says whose they are.
        if rows is other:
            key = place / "i.partial/segments/000001/key.txt"
            assert key.exists()
            key.unlink()
    source = Stopping(one)
    build("i", source)
    assert not hasattr(source, "started_at")
    assert Index.open("i").texts([0, 1]) == ["x", "y"]
    np.testing.assert_array_equal(Index.open("i").vectors([1]), vectors_of(["y"]))
    assert not (place / "i.partial").exists()


@pytest.mark.parametrize("change", ["text", "id", "metadata", "rows", "type"])
def test_a_source_that_changes_while_it_is_read_is_told(place, change):
    before = ("a", "x", {"n": "1"})
    after = {
        "text": [("a", "y", {"n": "1"})],
        "id": [("b", "x", {"n": "1"})],
        "metadata": [("a", "x", {"n": "2"})],
        "rows": [before, ("b", "x", {})],
        "type": [("a", "x", {"n": "one"})],
    }[change]
    source = Texts([before])
    source.untyped = True
    reads = iter([source.records(), Texts(after).records()])
    source.records = lambda: next(reads)
    with pytest.raises(UserError, match="rows changed while it was read: wait"):
        build("i", source)
    assert [*place.iterdir()] == []


def test_embeddings_that_are_too_few_are_told(place):
    class Short(Texts):
        def embeddings(self, texts, start, rows, advance):
            yield vectors_of(["a"])

    with pytest.raises(UserError, match="rows changed while it was read"):
        build("i", Short(["a", "b"]))


def test_an_empty_directory_becomes_an_index(place):
    # Such as one where a volume is mounted, which cannot be moved.
    (place / "i").mkdir()
    inode = (place / "i").stat().st_ino
    build("i", Texts(["a"]))
    assert (place / "i").stat().st_ino == inode
    assert not (place / "i" / ".lock").exists()
    assert [path.name for path in place.iterdir()] == ["i"]


@pytest.mark.parametrize("what", ["none", "a file", "empty", "unfinished"])
def test_what_is_no_index_is_refused(place, what):
    if what == "a file":
        (place / "i").touch()
    elif what != "none":
        (place / "i").mkdir()
    message = {"none": "no such directory", "a file": "it is a file"}
    with pytest.raises(UserError, match=message.get(what, "found no manifest.json")):
        Index.open("i")


def test_damage_is_told(place):
    build("i", Texts([(str(n), f"text {n}") for n in range(9)]))
    remove("i", ["3"])
    manifest = read_manifest(place / "i")
    for stored in manifest.files:
        file = place / "i" / stored.path
        content = file.read_bytes()
        for damaged, message in {
            content[:-1]: "has .* bytes, expected",
            None: "is missing",
        }.items():
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            with pytest.raises(
                UserError, match=rf"i is damaged: {stored.path} {message}"
            ):
                Index.open("i")
        file.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
        with pytest.raises(UserError, match=rf"{stored.path} is not as it was written"):
            stored.check(place / "i", hashes=True)
        file.write_bytes(content)
    Index.open("i")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "expected an index of format 1, received format 2, of version 0"),
        ("dtype", "float64", "manifest.json is damaged: dtype: Input should be"),
        ("rows", 1, "manifest.json is damaged: rows: Extra inputs"),
        (
            "candidates",
            {"rows": 2},
            "it: Value error, expected parts of at most 1 rows",
        ),
        ("dimension", 8, "expected float32 of shape \\(1, 8\\), received"),
        ("has_texts", False, "is damaged: it has the columns id, text"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(place, key, value, message):
    build("i", Texts(["a"]))
    file = place / "i" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=message):
        Index.open("i")


def test_a_manifest_names_nothing_outside(place):
    build("i", Texts(["a"]))
    file = place / "i" / "manifest.json"
    for path in ("segments/../../secret.npy", "/etc/passwd", "segments/a/../b.npy"):
        values = json.loads(file.read_text())
        values["segments"][0]["vectors"]["path"] = path
        file.write_text(json.dumps(values))
        with pytest.raises(UserError, match="segments.0.vectors.path: String should"):
            Index.open("i")


def test_candidates_are_built_anew_when_a_tenth_is_behind_them(place, monkeypatch):
    built = []

    def write(path, blocks, rows, kind, parameters):
        found = np.concatenate([block for _, block in blocks(5)])
        built.append((rows, found.shape))
        path.write_bytes(b"faiss")

    monkeypatch.setattr(parts.kinds, "build", write)
    build("i", Texts([f"{n}" for n in range(20)]), kind="hnsw")
    add("i", lambda _: Texts([("x", "x")]))
    candidates = read_manifest(place / "i").candidates
    assert (candidates.kind, candidates.rows, candidates.asked_for) == (
        "hnsw",
        20,
        True,
    )
    assert built == [(20, (20, DIMENSION))]
    add("i", lambda _: Texts([("y", "y"), ("z", "z")]))
    candidates = read_manifest(place / "i").candidates
    assert (candidates.rows, candidates.file.path) == (23, "candidates/000003.faiss")
    assert built == [(20, (20, DIMENSION)), (23, (23, DIMENSION))]
    remove("i", ["x"])
    assert [path.name for path in (place / "i/candidates").iterdir()] == [
        "000003.faiss"
    ]
