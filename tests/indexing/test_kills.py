"""A writer that is killed, meets a full disk, or is not alone."""

import os
import threading
import time

import numpy as np
import pytest
from support.indexes import Texts
from support.kill_points import survives_errors, survives_kills

from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import Locked
from simcse_tf.indexing import parts
from simcse_tf.indexing.changes import add, build, remove
from simcse_tf.indexing.index import Index

OLD = [(f"a{n}", f"old {n}") for n in range(6)]
NEW = [("a1", "new 1"), *((f"b{n}", f"new {n}") for n in range(9))]


def texts(place):
    """What the index holds, by id; `None` if there is no index."""
    if not (place / "i").exists():
        return None
    index = Index.open(place / "i")
    rows = np.flatnonzero(index.live)
    np.testing.assert_array_equal(index.vectors(rows) > -2, True)
    return dict(zip(index.ids(rows), index.texts(rows), strict=True))


def named(place):
    """The files of the index; what no manifest names is no part of it."""
    if not (place / "i").exists():
        return {}
    manifest = Index.open(place / "i").manifest
    names = ["manifest.json", *(file.path for file in manifest.files)]
    return {name: (place / "i" / name).read_bytes() for name in names}


def prepare_nothing(place):
    pass


def prepare(place):
    build(place / "i", Texts(OLD))


def write_new(place):
    if texts(place) is None:
        build(place / "i", Texts(OLD), dtype="int8")


def write_more(place):
    if "b1" not in texts(place):
        add(place / "i", lambda _: Texts(NEW), replace=True)


def write_less(place):
    if "a1" in texts(place):
        remove(place / "i", ["a1", "a5"])


def write_anew(place):
    if "b1" not in texts(place):
        build(place / "i", Texts(NEW), replace=True)


BEFORE, BUILT = dict(OLD), dict(NEW)
CHANGES = {
    "build": (prepare_nothing, write_new, None, BEFORE),
    "add": (prepare, write_more, BEFORE, {**BEFORE, **BUILT}),
    "remove": (
        prepare,
        write_less,
        BEFORE,
        {id: text for id, text in OLD if id not in ("a1", "a5")},
    ),
    "replace": (prepare, write_anew, BEFORE, BUILT),
}
# Of thirty to a hundred places.
EVERY = [
    pytest.param(1, marks=pytest.mark.attack, id="everywhere"),
    pytest.param(17, marks=pytest.mark.slow, id="here and there"),
]


@pytest.fixture(autouse=True)
def _candidates(monkeypatch):
    """Without faiss: what proposes rows is a file like any other."""

    def write(path, blocks, rows, kind, parameters):
        with open(path, "wb") as file:
            file.writelines(block.tobytes() for _, block in blocks(4))

    monkeypatch.setattr(parts.kinds, "build", write)
    monkeypatch.setattr(parts.kinds, "kind_for", lambda rows: "hnsw")


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_leaves_the_index_as_it_was_or_as_it_is_to_be(tmp_path, change, every):
    prepare, write, before, after = CHANGES[change]

    def check(place):
        assert texts(place) in (before, after)

    places = survives_kills(tmp_path, prepare, write, [], named, check, every)
    print(f"{change}: {places} places")
    assert places >= 25


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("change", ["build", "add"])
def test_a_disk_that_is_full_or_broken_is_told(tmp_path, change, every):
    prepare, write, before, after = CHANGES[change]

    def checked(place):
        try:
            write(place)
        finally:
            assert texts(place) in (before, after)

    errors = survives_errors(tmp_path, prepare, checked, [], named, every=every)
    assert errors
    for error in errors:
        assert isinstance(error, UserError), error


class Slow(Texts):
    """A source that another writer meets halfway."""

    def __init__(self, rows, meet):
        super().__init__(rows)
        self._meet = meet

    def embeddings(self, texts, start, rows, advance):
        self._meet()
        yield from super().embeddings(texts, start, rows, advance)


def test_a_second_writer_is_told_and_the_first_goes_on(tmp_path):
    def second_build():
        with pytest.raises(UserError, match="another process writes .*i.partial: wait"):
            build(tmp_path / "i", Texts(NEW))

    build(tmp_path / "i", Slow(OLD, second_build))
    assert texts(tmp_path) == BEFORE

    def others():
        with pytest.raises(Locked):
            add(tmp_path / "i", lambda _: Texts([("z", "z")]))
        with pytest.raises(Locked):
            remove(tmp_path / "i", ["a1"])
        # Readers are not in the way.
        assert texts(tmp_path) == BEFORE

    add(tmp_path / "i", lambda _: Slow(NEW, others), replace=True)
    assert texts(tmp_path) == {**BEFORE, **BUILT}
    assert [path.name for path in tmp_path.iterdir()] == ["i"]
    assert ".lock" not in os.listdir(tmp_path / "i")


def test_an_index_that_appears_while_another_is_built_stays(tmp_path):
    def overtake():
        # As a process on a file system without locks could.
        build(tmp_path / "other", Texts(NEW))
        (tmp_path / "other").rename(tmp_path / "i")

    with pytest.raises(UserError, match="--index: cannot write .*i: File exists"):
        build(tmp_path / "i", Slow(OLD, overtake))
    assert texts(tmp_path) == BUILT


@pytest.mark.slow
def test_writers_and_readers_at_once_lose_no_row(tmp_path):
    build(tmp_path / "i", Texts(OLD))
    failed = []

    def write(name):
        for n in range(8):
            while True:
                try:
                    add(tmp_path / "i", lambda _, n=n: Texts([(f"{name}{n}", "x")]))
                    break
                except Locked:
                    time.sleep(0.005)

    def guarded(function, *arguments):
        try:
            function(*arguments)
        except BaseException as error:
            failed.append(error)

    def read():
        while any(writer.is_alive() for writer in writers):
            assert texts(tmp_path).items() >= BEFORE.items()

    writers = [threading.Thread(target=guarded, args=(write, n)) for n in "xy"]
    reader = threading.Thread(target=guarded, args=(read,))
    for thread in (*writers, reader):
        thread.start()
    for thread in (*writers, reader):
        thread.join()
    assert failed == []
    names = {f"{name}{n}" for name in "xy" for n in range(8)}
    assert texts(tmp_path).keys() == {*BEFORE, *names}
