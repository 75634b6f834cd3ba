"""`simcse_tf.index` killed as a user would kill it: from outside, at any moment."""

import shutil
import time

import numpy as np
import pytest
from support.forked import run_command, start_command
from support.models import SENTENCES, make_preset

from simcse_tf.indexing.index import Index

MOMENTS = 10
ROWS = 40_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("killed")
    make_preset(place / "model", 1, 2000)
    for name, start in (("old", 0), ("new", ROWS - 5)):
        rows = "".join(
            f"r{n},{SENTENCES[n % 8]} {n},{n}\n" for n in range(start, start + ROWS)
        )
        (place / f"{name}.csv").write_text(f"id,text,number\n{rows}")
    done = run_command("simcse_tf.index", *BUILD, "--index", "base", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


BUILD = ("build", "--model", "model", "--pooling", "avg", "--input", "old.csv")
CHANGES = {"build": BUILD, "add": ("add", "--replace", "--input", "new.csv")}


def content(directory):
    index = Index.open(directory)
    rows = np.flatnonzero(index.live)
    records = [*zip(index.ids(rows), index.texts(rows), strict=True)]
    return records, index.vectors(rows)


def reset(place, change):
    shutil.rmtree(place / "i", ignore_errors=True)
    if change == "add":
        shutil.copytree(place / "base", place / "i")


@pytest.mark.attack
@pytest.mark.parametrize("change", CHANGES)
def test_ten_kills_leave_an_index_as_it_was_or_as_it_is_to_be(place, change):
    command = ("simcse_tf.index", *CHANGES[change], "--index", "i")
    reset(place, change)
    before = content(place / "i") if change == "add" else None
    begun = time.perf_counter()
    done = run_command(*command, cwd=place)
    seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    after = content(place / "i")
    reset(place, change)
    killed, resumed = 0, 0
    for moment in range(MOMENTS):
        process = start_command(*command, cwd=place)
        time.sleep(seconds * (moment + 0.5) / MOMENTS)
        killed += process.returncode is None
        process.kill()
        resumed += "resuming after" in process.communicate()[1]
        if change == "build" and not (place / "i").exists():
            continue
        found = content(place / "i")
        assert found[0] in ([before[0]] if before else []) + [after[0]]
        if found[0] == after[0]:
            np.testing.assert_array_equal(found[1], after[1])
            reset(place, change)
    print(f"{change}: {killed} kills in {seconds:.1f} s each, {resumed} resumed")
    assert killed >= MOMENTS // 2
    done = run_command(*command, cwd=place)
    assert done.returncode == 0, done.stderr
    records, vectors = content(place / "i")
    assert records == after[0]
    np.testing.assert_array_equal(vectors, after[1])
    assert not (place / "i.partial").exists()
