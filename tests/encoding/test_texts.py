import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.core.steady_lines import Changed, SteadyLines
from simcse_tf.encode import main as encode_main
from simcse_tf.encoding.partial_array import PartialArray
from simcse_tf.encoding.texts import FileTexts, load_sentences
from simcse_tf.model import bulk

TEXTS = ["A man sleeps.", "", 'He said "no", twice.', "Zwei\nMänner", " 两个人 🙂", "x"]


def zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


def as_csv(rows, delimiter=","):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode()


def as_jsonl(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def as_parquet(columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return name

    return write


def read(path, **keywords):
    return [text.decode() for text in FileTexts(path, **keywords)]


def test_every_format_gives_each_row_an_empty_one_too(write):
    numbered = [["id", "text"], *([i, text] for i, text in enumerate(TEXTS))]
    bom = b"\xef\xbb\xbf"
    for name, content in {
        "t.csv": as_csv([["text"], *([text] for text in TEXTS)]),
        "n.csv": bom + as_csv(numbered),
        "t.csv.gz": gzip.compress(as_csv(numbered)),
        "T.JSONL.ZST": zstd(as_jsonl(TEXTS)),
        "t.jsonl": as_jsonl(TEXTS),
        "t.parquet": as_parquet({"text": TEXTS, "label": [1] * 6}),
    }.items():
        texts = FileTexts(write(name, content))
        # From the first one on each time.
        for _ in range(2):
            assert [text.decode() for text in texts] == TEXTS, name
        assert texts.column == "text"


def test_other_files_give_a_text_a_line(write):
    content = b"\xef\xbb\xbfone\r\n\n two\xff\nthree"
    for name, bytes_ in {
        "t.txt": content,
        "t.en": content,
        "t.txt.gz": gzip.compress(content),
        "t.gz": gzip.compress(content),
        "t.en.zst": zstd(content),
    }.items():
        assert read(write(name, bytes_)) == ["one", "", " two\ufffd", "three"], name
    assert (
        read(write("e.txt", b"")) == read(write("e.txt.gz", gzip.compress(b""))) == []
    )
    assert read(write("e.csv", b"text\n")) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_characters="\0")), max_size=6))
def test_any_texts_come_back(write, texts):
    # Half a surrogate pair has no UTF-8.
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    assert (
        read(write("h.csv", as_csv([["text"], *([text] for text in texts)]))) == texts
    )
    assert read(write("h.jsonl.gz", gzip.compress(as_jsonl(texts)))) == texts
    table = {"text": pa.array(texts, pa.string())}
    assert read(write("h.parquet", as_parquet(table))) == texts


def test_the_column_is_the_named_one(write):
    path = write("t.csv", as_csv([["a", "b,c"], ["1", "2"], ["3", "4"]]))
    assert read(path, column="b,c") == ["2", "4"]
    path = write("t.jsonl", b'{"a": "1", "b": "2"}\n{"b": null}\n')
    assert read(path, column="b") == ["2", ""]
    path = write("t.tsv", b'sentence\tlabel\n"A" and\t1\n"b" is\t0\n')
    assert read(path) == ['"A" and', '"b" is']
    assert read(write("q.tsv", b't\n"a\tb"\n'), quoting="quoted") == ["a\tb"]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        (
            "t.csv",
            b"a,b\nc,d\n",
            None,
            r"t\.csv, line 1: .* received a,b: --column say",
        ),
        (
            "t.csv",
            b"a,b\nc,d\n",
            "c",
            r"line 1: expected one column 'c', received none",
        ),
        ("t.csv", b"a,a\nc,d\n", "a", r"expected one column 'a', received twice"),
        ("t.csv", b"text\na\n\nb\n", None, r"t\.csv, line 3: .*received a blank line"),
        ("t.jsonl", b'{"a": "b"}\n\n', None, r"t\.jsonl, line 2: .*a blank line"),
        (
            "t.jsonl",
            b'{"a": "b"}\n{"c": "d"}\n',
            None,
            r"line 2: expected one column 'a'",
        ),
        ("t.jsonl", b'{"a": 3}\n', None, r"line 1: expected a string in a, received 3"),
        (
            "t.csv",
            b"text\na,b\n",
            None,
            r"t\.csv, line 2: expected 1 columns, received",
        ),
        ("t.tsv", b't\n"a ""b"""\n', None, r"line 2: .*expected --quoting to say"),
        ("t.txt", b"a\n", "text", r"--column: t\.txt has no columns"),
        ("t.txt", gzip.compress(b"a\n", mtime=0), None, r"t\.txt holds gzip data"),
        ("t.txt.gz", b"a\n", None, r"t\.txt\.gz is cut short or damaged"),
        ("t.csv.zst", zstd(as_csv([["text"], ["a"]]))[:-3], None, r"t\.csv\.zst"),
        ("t.parquet", b"PAR1", None, r"t\.parquet"),
        ("t.parquet.gz", b"", None, r"expected a \.parquet file without \.gz"),
        ("t.parquet", as_parquet({"n": [1]}), None, r"expected a string in n, rec"),
        ("no.csv", None, None, r"cannot read no\.csv: No such file"),
    ],
)
def test_what_gives_no_text_a_row_is_refused(write, name, content, column, message):
    if content is not None:
        write(name, content)
    with pytest.raises(UserError, match=message):
        read(name, column=column)


def test_a_table_that_changes_while_it_is_read_is_told(write):
    path = write("t.csv", as_csv([["text"], ["one"], ["two"]]))
    for now in (b"text\none\nTWO\n", b"text\none\n", b'text\none\n"tw', b"text\n"):
        lines = SteadyLines(path, FileTexts(path))
        write("t.csv", now)
        with pytest.raises(Changed, match=r"t\.csv changed while it was read"):
            list(lines.read())
        write("t.csv", as_csv([["text"], ["one"], ["two"]]))


def test_sentences_are_lines_and_nothing_else_cuts_them(write):
    content = "\ufeffone  two\r\n\n \nthree\u2028four\nfive".encode()
    for name, bytes_ in {"t.txt": content, "t.txt.gz": gzip.compress(content)}.items():
        path = write(name, bytes_)
        assert load_sentences(path) == ["one two", "three four", "five"]
    assert load_sentences(write("t.csv", b'text,id\na  b,1\n"",2\n')) == ["a b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"ok\n\xff\n", "line 2: not valid UTF-8"),
        (b"\n \n", "no sentence"),
    ],
)
def test_a_file_without_sentences_is_told_in_one_line(write, content, message):
    if content is not None:
        write("t.txt", content)
    with pytest.raises(UserError, match=message):
        load_sentences("t.txt")


@pytest.mark.slow
def test_encode_embeds_a_column_and_resumes(
    write, tmp_path, tiny_preset, monkeypatch, capsys
):
    texts = [f"sentence {number}" for number in range(7)]
    rows = [["id", "body"], *([i, text] for i, text in enumerate(texts))]
    write("t.csv.gz", gzip.compress(as_csv(rows)))
    arguments = [
        "--model",
        str(tiny_preset),
        "--input",
        "t.csv.gz",
        "--output",
        "o.npy",
    ]
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setattr(bulk, "BLOCK", 2)
    append = PartialArray.append

    def append_twice(array, rows):
        if array.rows_done == 4:
            raise RuntimeError("in the middle")
        append(array, rows)

    with monkeypatch.context() as patch:
        patch.setattr(PartialArray, "append", append_twice)
        with pytest.raises(RuntimeError, match="in the middle"):
            encode_main(arguments)
    encode_main([*arguments, "--column", "body"])
    told = capsys.readouterr()
    assert "t.csv.gz: column body" in told.err
    assert "resuming after 4 of 7 texts" in told.err
    assert "o.npy: 7 sentences" in told.out
    expected = SimCSE.from_preset(str(tiny_preset)).predict(texts, verbose=0)
    np.testing.assert_allclose(np.load("o.npy"), expected, atol=1e-6)
