import gzip

import pytest

from simcse_tf.core import steady_lines
from simcse_tf.core.errors import UserError
from simcse_tf.core.steady_lines import Changed, SteadyLines
from simcse_tf.core.text_lines import read_raw_lines

TEXTS = [b"", b"\n", b"one", b"one\r\ntwo\n\n\xff", b"%d\n" * 10]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(steady_lines, "_BLOCK", 3)


@pytest.mark.parametrize("text", TEXTS)
def test_lines_are_those_of_the_file_from_any_of_them_on(tmp_path, text):
    path = tmp_path / "t.txt"
    path.write_bytes(text)
    expected = list(read_raw_lines(path))
    lines = SteadyLines(path)
    assert len(lines) == len(expected)
    for start in range(len(expected) + 2):
        assert list(lines.read(start)) == expected[start:]


@pytest.mark.parametrize("start", [0, 4, 9])
@pytest.mark.parametrize(
    ("now", "given"),
    [
        ("shrunk", 6),
        ("empty", 0),
        ("grown", 9),
        ("one letter", 3),
        ("one more at the end", 6),
    ],
)
def test_no_line_of_a_file_that_changed_is_given(tmp_path, now, given, start):
    path = tmp_path / "t.txt"
    texts = [f"{i}\n" for i in range(10)]
    path.write_text("".join(texts))
    lines = SteadyLines(path)
    changed = {
        "shrunk": texts[:7],
        "empty": [],
        "grown": [*texts, "more\n"],
        "one letter": [*texts[:4], "x\n", *texts[5:]],
        "one more at the end": [*texts[:7], "7x\n", *texts[8:]],
    }[now]
    path.write_text("".join(changed))
    assert SteadyLines(path).digest != lines.digest
    received = []
    with pytest.raises(Changed, match=r"t\.txt changed while it was read"):
        for line in lines.read(start):
            received.append(line)
    assert received == [b"%d" % i for i in range(start, given)]


def test_the_digest_is_of_the_content(tmp_path):
    (tmp_path / "a").write_text("one\ntwo")
    (tmp_path / "b").write_text("one\ntwo")
    (tmp_path / "c").write_text("one\ntwo\nthree")
    a, b, c = (SteadyLines(tmp_path / name).digest for name in "abc")
    assert a == b != c


def test_other_texts_of_a_file_are_given_as_they_are(tmp_path):
    texts = [b"one\ntwo", b"", b"three\r\n", b"four"]
    lines = SteadyLines(tmp_path / "t.csv", texts)
    assert len(lines) == 4
    assert list(lines.read(1)) == texts[1:]
    before = lines.digest
    texts[2:] = [b"three", b"\r\nfour"]
    assert SteadyLines(tmp_path / "t.csv", texts).digest != before
    with pytest.raises(Changed, match=r"t\.csv changed while it was read"):
        list(lines.read())


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(b"one\ntwo\n"), "gzip data"),
        (b"\x28\xb5\x2f\xfd rest", "zstd data"),
        (b"PAR1 rest", "Parquet data"),
        (b"PK\x03\x04 rest", "ZIP data"),
        ("one\ntwo\n".encode("utf-16"), "UTF-16 text"),
        ("one\n".encode("utf-16-be").join([b"\xfe\xff", b""]), "UTF-16 text"),
    ],
    # gzip writes the time.
    ids=["gzip", "zstd", "parquet", "zip", "utf-16", "utf-16-be"],
)
def test_what_is_no_text_is_not_read_as_lines(tmp_path, content, kind):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.txt holds {kind}.*: expected UTF-8 text"):
        SteadyLines(tmp_path / "t.txt")
