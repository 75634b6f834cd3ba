"""Every writer is killed before, and fails at, everything that it does to files."""

import numpy as np
import pytest
from support.kill_points import survives_errors, survives_kills, tree

from simcse_tf.core import atomic
from simcse_tf.core.atomic import atomic_directory, atomic_write
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


def write_array(path, key="new"):
    rows = np.arange(12, dtype="float32").reshape(6, 2) + len(key)
    with partial_array(path / "o.npy", rows.shape, key) as array:
        for start in range(array.rows_done, len(rows), 2):
            array.append(rows[start : start + 2])


def remove_directory(path, text="new"):
    if text == "new":
        atomic.remove_directory(path / "best")
    else:
        write_directory(path)


def empty(path):
    assert not tree(path)


WRITERS = {
    "a file": (write_text, "deep/out.txt"),
    "scores": (write_scores, "out.json"),
    "a link": (write_link, "last"),
    "a directory": (write_directory, "best"),
    "an array": (write_array, "o.npy"),
}


@pytest.mark.parametrize("there", ["nothing there", "an older one there"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_killed_anywhere_costs_nothing(writer, there, tmp_path):
    write, output = WRITERS[writer]
    prepare = (lambda path: write(path, "old")) if "older" in there else empty
    assert survives_kills(tmp_path, prepare, write, [output]) >= 9


@pytest.mark.parametrize("there", ["nothing there", "an older one there"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_that_fails_anywhere_leaves_nothing(writer, there, tmp_path):
    write, output = WRITERS[writer]
    prepare = (lambda path: write(path, "old")) if "older" in there else empty
    # To be resumed.
    kept = {"o.npy.partial", "o.npy.partial.json"}
    errors = survives_errors(tmp_path, prepare, write, [output], kept=kept)
    assert {type(error) for error in errors} == {OSError}
