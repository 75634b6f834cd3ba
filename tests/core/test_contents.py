import os
import subprocess

import pytest

from simcse_tf.core.contents import (
    check_hashes,
    check_kinds,
    contents_of,
    listed,
    sha256,
)
from simcse_tf.core.errors import UserError
from simcse_tf.server.versions import snapshot


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"")
    return tmp_path


def test_everything_below_a_directory_is_listed_by_what_it_is(directory):
    os.mkfifo(directory / "deep" / "pipe")
    (directory / "link").symlink_to("a")
    (directory / "up").symlink_to("..")
    (directory / "gone").symlink_to("nowhere")
    found = contents_of(directory)
    assert found.files == ["a", "deep/er/b", "link"]
    assert found.directories == ["deep", "deep/er"]
    assert found.others == ["deep/pipe", "gone", "up"]
    with pytest.raises(UserError, match="^deep/pipe, gone, up: expected files and"):
        check_kinds(found)


def test_a_tree_is_as_deep_as_it_likes(tmp_path):
    where = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=where)
        inner = os.open("d", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = inner
    os.close(where)
    try:
        assert len(contents_of(tmp_path).directories) == 1100
        assert len(snapshot(tmp_path)) == 1101
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


def test_files_are_those_that_were_hashed(directory):
    # The example of FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(directory / "a") == digest
    files = contents_of(directory).files
    check_hashes(directory, files, {"a": digest})
    with pytest.raises(UserError, match="^deep/er/b is not as it was written"):
        check_hashes(directory, files, {"a": digest, "deep/er/b": digest})
    with pytest.raises(UserError, match="^/etc/hosts, b is missing"):
        check_hashes(directory, files, {"b": digest, "/etc/hosts": digest})


def test_a_directory_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="cannot read .*gone: No such file"):
        contents_of(tmp_path / "gone")


def test_a_list_of_names_has_an_end():
    assert listed("ba") == "a, b"
    assert listed(map(str, range(1000))).endswith(" and 995 more")
