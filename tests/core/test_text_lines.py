import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import LocatedLines, read_lines, read_raw_lines

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def file(tmp_path):
    def write(content):
        (tmp_path / "t.txt").write_bytes(content)
        return tmp_path / "t.txt"

    return write


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one", ["one"]),
        (b"one\n\ntwo\r\n", ["one", "", "two"]),
        (b"one\r\r\ntwo\rthree\r", ["one\r", "two\rthree"]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
        (BOM, []),
        (BOM + b"\none", ["", "one"]),
        (BOM + b"one\n" + BOM + b"two", ["one", "\ufefftwo"]),
    ],
)
def test_only_a_newline_ends_a_line(file, content, lines):
    path = file(content)
    assert list(read_lines(path)) == lines
    assert list(read_lines(str(path))) == lines
    located = [line.rstrip("\n") for line in LocatedLines(path)]
    assert [line.removesuffix("\r") for line in located] == lines


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"\n", b"\r", BOM, b"\xff", b"a", b"\x85"])))
def test_raw_lines_and_places_are_those_of_the_file(file, parts):
    content = b"".join(parts)
    path = file(content)
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert list(read_raw_lines(path)) == [line.removesuffix(b"\r") for line in expected]
    lines = LocatedLines(path)
    try:
        for line in lines:
            assert content[lines.start : lines.end] == line.encode()
    except UserError:
        assert b"\xff" in content or b"\x85" in content
    else:
        assert lines.end in (0, len(content))


def test_a_line_of_another_encoding_is_named(file):
    path = file(b"one\n\xffa\n")
    assert list(read_lines(path, "latin-1")) == ["one", "ÿa"]
    with pytest.raises(UserError, match=r"t\.txt, line 2: not UTF-8 \('utf-8' codec"):
        list(read_lines(path))
    with pytest.raises(UserError, match=r"t\.txt, line 2: not ASCII \('ascii' codec"):
        list(read_lines(path, "ascii"))
    with pytest.raises(UserError, match=r"line 2: not valid UTF-8 \(.*, byte 1\)$"):
        list(LocatedLines(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = {"": "a directory", "pipe": "a pipe", "none": "No such file"}
    for read in (read_lines, LocatedLines, read_raw_lines):
        for name, what in found.items():
            with pytest.raises(UserError, match=rf"cannot read .*: .*{what}"):
                list(read(tmp_path / name))


def test_an_error_names_the_last_line_given(file):
    lines = LocatedLines(file(b"one\ntwo\n"))
    next(iter(lines))
    assert str(lines.error("too short")).endswith("t.txt, line 1: too short")
