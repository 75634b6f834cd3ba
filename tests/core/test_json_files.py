import json
import math
import os
import socket

import numpy as np
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import MAX_DEPTH, parse_json, read_json, write_json
from simcse_tf.core.regular_files import is_there


def test_what_is_written_is_read_and_ends_in_a_newline(tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json(path, {"avg": 81.6, "é": [1, None]})
    assert read_json(path) == {"avg": 81.6, "é": [1, None]}
    assert path.read_text() == json.dumps({"avg": 81.6, "é": [1, None]}, indent=2) + (
        "\n"
    )
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file"),
        (b"\xff", "is not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
        (b"{", "is not valid JSON: .* at line 1, column 2"),
        (b"", "is not valid JSON"),
        (b'{"a": NaN}', "NaN is no number in JSON"),
        (b"[-Infinity]", "-Infinity is no number in JSON"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', 'the key "b" is there twice'),
        (b'{"%s": 1, "%s": 2}' % (b"k" * 10**6, b"k" * 10**6), "the key .* twice"),
        (b"1" * 400, "a number of 400 digits"),
        (b"-" + b"1" * 5000, "a number of 5001 digits"),
        (b"[1e400]", "the number 1e400 is too large"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested deeper"),
        (b'{"a": "\\udc80"}', "half a surrogate pair"),
        (b'{"\\ud83d": 1}', "half a surrogate pair"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_users_mistake(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as told:
        read_json(path)
    assert len(str(told.value)) < 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\ufeff[1]", [1]),
        (b"\xef\xbb\xbf[1]", [1]),
        ('"\\ud83d\\ude00"', "😀"),
        ("1" * 31, int("1" * 31)),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
    ],
)
def test_what_json_allows_is_read(text, value):
    assert value in (None, parse_json(text, "it"))


def test_half_a_surrogate_pair_is_read_where_its_reader_can():
    assert parse_json('["\\ud800"]', "it", half_pairs=True) == ["\ud800"]


def test_a_file_larger_than_any_is_not_read(tmp_path):
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(UserError, match="has 1000000000000 bytes: expected at most"):
        read_json(path)


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as end:
        # A socket's own name must be short.
        before = os.getcwd()
        os.chdir(path.parent)
        try:
            end.bind(path.name)
        finally:
            os.chdir(before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "expected a file, found a directory"),
        (pipe, "expected a file, found a pipe"),
        (listening, "expected a file, found a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "found a device"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.symlink_to(path), "levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_neither_read_nor_taken_for_missing(make, message, tmp_path):
    path = tmp_path / "x.json"
    make(path)
    for read in (read_json, is_there):
        with pytest.raises(UserError, match=message):
            read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b", "null byte"),
        ("x" * 300, "File name too long"),
        ("x/" * 4000, "File name too long"),
    ],
)
def test_a_name_that_no_file_can_have_is_told_in_a_short_line(name, message, tmp_path):
    for read in (read_json, is_there):
        with pytest.raises(UserError, match=message) as told:
            read(tmp_path / name)
        assert len(str(told.value)) < 500
        assert str(told.value).isprintable()


def test_what_json_does_not_have_is_written_as_null(tmp_path):
    path = tmp_path / "x.json"
    numbers = [math.nan, math.inf, -math.inf, np.float64("nan"), 1.5]
    write_json(path, {"a": {"b": numbers}, "c": (math.nan, 1)})
    assert read_json(path) == {"a": {"b": [None] * 4 + [1.5]}, "c": [None, 1]}


def test_a_file_is_there_or_not(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("x.json")
    assert is_there(tmp_path / "x.json")
    assert is_there(tmp_path / "link.json")
    assert not is_there(tmp_path / "y.json")
    assert not is_there(tmp_path / "x.json" / "z")
