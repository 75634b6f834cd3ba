import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.kill_points import tree

from simcse_tf.core import atomic
from simcse_tf.core.atomic import atomic_directory, atomic_write, check_room, clean_up


@pytest.mark.parametrize("kernel_can_swap", [True, False])
def test_a_directory_appears_whole_and_replaces_the_old_one(
    tmp_path, monkeypatch, kernel_can_swap
):
    if not kernel_can_swap:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    path = tmp_path / "deep" / "best"
    for text in ("old", "new"):
        with atomic_directory(path) as directory:
            (directory / "f").write_text(text)
            assert not (path / "f").exists() or (path / "f").read_text() == "old"
    assert (path / "f").read_text() == "new"
    assert os.listdir(path.parent) == ["best"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o500 == 0o500


def test_a_failure_leaves_the_old_directory_and_nothing_else(tmp_path):
    path = tmp_path / "best"
    with atomic_directory(path) as directory:
        (directory / "f").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(path) as directory:
        (directory / "f").write_text("half")
        raise RuntimeError
    assert (path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["best"]


def test_a_directory_that_must_not_be_replaced_is_not(tmp_path):
    path = tmp_path / "1"
    with atomic_directory(path, replace=False) as directory:
        (directory / "f").write_text("old")
    with pytest.raises(OSError), atomic_directory(path, replace=False) as directory:  # noqa: PT011
        (directory / "f").write_text("new")
    assert (path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["1"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "f"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["f"]


def test_linux_swaps_directories_with_no_moment_between(tmp_path, monkeypatch):
    with atomic_directory(tmp_path / "best") as directory:
        (directory / "f").write_text("old")
    monkeypatch.delattr(Path, "rename")
    with atomic_directory(tmp_path / "best") as directory:
        (directory / "f").write_text("new")
    assert (tmp_path / "best" / "f").read_text() == "new"
    assert os.listdir(tmp_path) == ["best"]


def test_files_of_others_stay_whatever_their_names(tmp_path):
    theirs = {
        ".data.old": "directory",
        ".notes.old": "file",
        ".draft.new-2024": "file",
        ".draft.new-abcd1234": "directory",
        ".full.new-abcd1234.simcse": "directory",
        ".plain.new-abcd1234.simcse": "file",
        "x.new-abcd1234.simcse": "directory",
    }
    for name, kind in theirs.items():
        path = tmp_path / name
        if kind == "directory":
            path.mkdir()
            path /= "f"
        path.write_text("mine")
    before = tree(tmp_path)
    clean_up(tmp_path)
    assert tree(tmp_path) == before
    with atomic_write(tmp_path / "new") as path:
        path.write_text("new")
    assert tree(tmp_path) == before | {"new": b"new"}


def test_what_a_live_process_is_writing_stays(tmp_path):
    with atomic_write(tmp_path / "one") as one:
        one.write_text("one")
        with atomic_write(tmp_path / "one") as other:
            other.write_text("other")
        clean_up(tmp_path)
        assert (tmp_path / "one").read_text() == "other"
    assert (tmp_path / "one").read_text() == "one"
    assert os.listdir(tmp_path) == ["one"]


def test_any_name_that_a_file_may_have_can_be_written(tmp_path):
    for name in ("x" * 255, "ü" * 127, "[a]*", "a\nb", ".simcse.txt"):
        with atomic_write(tmp_path / name) as path:
            path.write_text(name)
        assert (tmp_path / name).read_text() == name
    assert len(os.listdir(tmp_path)) == 5


def test_what_another_writer_puts_there_first_is_replaced(tmp_path, monkeypatch):
    def another_comes_first(final, place):
        final.mkdir()
        (final / "theirs").touch()

    monkeypatch.setattr(atomic, "_step_aside", another_comes_first)
    with atomic_directory(tmp_path / "best") as directory:
        (directory / "ours").touch()
    assert os.listdir(tmp_path) == ["best"]
    assert os.listdir(tmp_path / "best") == ["ours"]


@pytest.mark.parametrize("replace", [True, False])
def test_of_many_writers_at_once_each_is_whole_or_refused(tmp_path, replace):
    def write(number):
        try:
            for _ in range(20):
                with atomic_directory(tmp_path / "best", replace) as directory:
                    for name in "abc":
                        (directory / name).write_text(str(number))
        except FileExistsError:
            return "refused"
        return "written"

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(write, range(4)))
    assert ends == (["written"] * 4 if replace else ["refused"] * 4)
    texts = [path.read_text() for path in (tmp_path / "best").iterdir()]
    assert len(texts) == 3
    assert len(set(texts)) == 1
    assert os.listdir(tmp_path) == ["best"]


def test_a_link_is_replaced_as_a_file_is(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with atomic_write(tmp_path / "last") as link:
            link.symlink_to(name)
    assert os.readlink(tmp_path / "last") == "b"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "last"]


def test_room_that_is_not_there_is_an_error(tmp_path):
    check_room(tmp_path, 2**20)
    with pytest.raises(OSError, match="No space left|too large"):
        check_room(tmp_path, 2**60)
    assert os.listdir(tmp_path) == []
