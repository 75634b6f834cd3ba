import os
import stat

import pytest

from simcse_tf.files import whole_directory, whole_file


def test_a_directory_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "deep" / "best"
    for text in ("old", "new"):
        with whole_directory(path) as directory:
            (directory / "f").write_text(text)
            assert not (path / "f").exists() or (path / "f").read_text() == "old"
    assert (path / "f").read_text() == "new"
    assert os.listdir(path.parent) == ["best"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o500 == 0o500


def test_a_failure_leaves_the_old_directory_and_nothing_else(tmp_path):
    path = tmp_path / "best"
    with whole_directory(path) as directory:
        (directory / "f").write_text("old")
    with pytest.raises(RuntimeError), whole_directory(path) as directory:
        (directory / "f").write_text("half")
        raise RuntimeError
    assert (path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["best"]


def test_a_directory_that_must_not_be_replaced_is_not(tmp_path):
    path = tmp_path / "1"
    with whole_directory(path, replace=False) as directory:
        (directory / "f").write_text("old")
    with pytest.raises(OSError), whole_directory(path, replace=False) as directory:  # noqa: PT011
        (directory / "f").write_text("new")
    assert (path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["1"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "f"
    with whole_file(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["f"]
