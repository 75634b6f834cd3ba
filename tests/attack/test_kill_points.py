"""Every writer is killed before, and fails at, everything that it does to files."""

import json

import numpy as np
import pytest
from support.kill_points import survives_errors, survives_kills

from simcse_tf.core import atomic
from simcse_tf.core.atomic import atomic_directory, atomic_write
from simcse_tf.encoding.partial_array import partial_array


def write_text(path, text="new"):
    with atomic_write(path / "out.txt") as temporary:
        temporary.write_text(text * 1000)


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


WRITERS = {
    "file": (write_text, "out.txt"),
    "link": (write_link, "last"),
    "directory": (write_directory, "best"),
    "array": (write_array, "o.npy"),
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("writer", WRITERS)
def test_kills(writer, there, tmp_path):
    write, output = WRITERS[writer]
    prepare = (lambda path: write(path, "older")) if there else (lambda path: None)
    print(survives_kills(tmp_path, prepare, write, [output]))
