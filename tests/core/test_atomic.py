import os
import stat
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("written", [True, False])
def test_what_a_killed_process_left_is_cleaned_up(tmp_path, written):
    """It was killed between the two renames, or just after them."""
    for name in (".best.old", ".best.new-x1", *(["best"] if written else [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    (tmp_path / ".config.json.new-7").write_text("ha")
    (tmp_path / ".last.new-7").symlink_to("nowhere")
    (tmp_path / ".notes.old").write_text("the user's")
    clean_up(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".notes.old", "best"]
    expected = "best" if written else ".best.old"
    assert (tmp_path / "best" / "f").read_text() == expected


def test_a_removed_directory_is_never_there_in_part(tmp_path, monkeypatch):
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "f").touch()
    monkeypatch.setattr(atomic, "_discard", lambda path: None)  # killed
    atomic.remove_directory(tmp_path / "step-1")
    assert not (tmp_path / "step-1").exists()
    monkeypatch.undo()
    clean_up(tmp_path)
    assert os.listdir(tmp_path) == []


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
