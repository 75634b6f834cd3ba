"""Every writer is killed before, and fails at, everything that it does to files."""

import resource

import numpy as np
import pytest
from support.kill_points import KILL, attempt, survives_errors, survives_kills, tree

from simcse_tf.core import atomic
from simcse_tf.core.atomic import atomic_directory, atomic_write, clean_up
from simcse_tf.core.json_files import write_json
from simcse_tf.encoding.partial_array import partial_array


def write_text(path, text="new"):
    with atomic_write(path / "deep/out.txt") as temporary:
        temporary.write_text(text * 1000)


def write_scores(path, score="new"):
    write_json(path / "out.json", {"avg": score})


def write_link(path, target="new"):
    (path / target).mkdir(exist_ok=True)
    with atomic_write(path / "last") as link:
        link.symlink_to(target)


def write_directory(path, text="new"):
    with atomic_directory(path / "best") as directory:
        for name in ("a", "b"):
            (directory / name).write_text(text * 1000)
        (directory / "deep").mkdir()
        (directory / "deep" / "c").write_text(text)


def write_directory_by_two_moves(path, text="new"):
    """As where kernel or file system cannot swap two directories in one."""
    atomic._exchange = lambda one, other: False  # in a fork
    write_directory(path, text)


def write_array(path, key="new"):
    rows = np.arange(12, dtype="float32").reshape(6, 2) + len(key)
    with partial_array(path / "o.npy", rows.shape, key) as array:
        for start in range(array.rows_done, len(rows), 2):
            array.append(rows[start : start + 2])


def empty(path):
    assert not tree(path)


WRITERS = {
    "a file": (write_text, "deep/out.txt"),
    "scores": (write_scores, "out.json"),
    "a link": (write_link, "last"),
    "a directory": (write_directory, "best"),
    "an array": (write_array, "o.npy"),
}


# A few places always, all of them where there is time.
EVERY = [7, pytest.param(1, marks=pytest.mark.attack)]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("there", ["nothing there", "an older one there"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_killed_anywhere_costs_nothing(writer, there, every, tmp_path):
    write, output = WRITERS[writer]
    prepare = (lambda path: write(path, "old")) if "older" in there else empty
    assert survives_kills(tmp_path, prepare, write, [output], every=every) >= 9


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("there", ["nothing there", "an older one there"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_that_fails_anywhere_leaves_nothing(writer, there, every, tmp_path):
    write, output = WRITERS[writer]
    prepare = (lambda path: write(path, "old")) if "older" in there else empty
    # To be resumed.
    kept = {"o.npy.partial", "o.npy.partial.json"}
    errors = survives_errors(tmp_path, prepare, write, [output], kept=kept, every=every)
    assert {type(error) for error in errors} == {OSError}


def test_without_a_swap_the_old_directory_comes_back(tmp_path):
    """Between two moves it has no name, until the next writer gives it back."""

    def check(place):
        if not (place / "best").exists():
            attempt(lambda place: clean_up(place), place)
            assert tree(place) == tree(tmp_path / "before")

    def prepare(path):
        write_directory(path, "old")

    write = write_directory_by_two_moves
    assert survives_kills(tmp_path, prepare, write, [], check=check) >= 19


@pytest.mark.parametrize("every", [21, pytest.param(7, marks=pytest.mark.attack)])
def test_rows_of_another_key_are_never_taken_for_rows_of_this_one(tmp_path, every):
    """Killed anywhere, after one that had other sentences was killed anywhere."""

    def write_other(path):
        write_array(path, "another")

    points = attempt(write_array, fresh(tmp_path / "0")).points
    expected = tree(tmp_path / "0")
    for first in range(0, len(points), every):
        for second in range(0, len(points), every):
            place = fresh(tmp_path / f"{first}-{second}")
            assert attempt(write_array, place, KILL, first).was_killed
            attempt(write_other, place, KILL, second)
            assert attempt(write_array, place).error is None
            assert tree(place) == expected, (first, second)


def fresh(path):
    path.mkdir()
    return path


@pytest.mark.parametrize("limit", [0, 1, 100, 2999])
@pytest.mark.parametrize("writer", ["a file", "a directory", "scores", "an array"])
def test_what_the_kernel_refuses_to_write_leaves_the_old_output(
    writer, limit, tmp_path
):
    write, _ = WRITERS[writer]
    write(tmp_path, "old")
    before = tree(tmp_path)

    def write_little(path):
        size = min(limit, 15) if writer in ("scores", "an array") else limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        write(path)

    failed = attempt(write_little, tmp_path)
    assert isinstance(failed.error, OSError)
    now = tree(tmp_path)
    assert {name: now[name] for name in before} == before
    assert now.keys() - before.keys() <= {"o.npy.partial"}
