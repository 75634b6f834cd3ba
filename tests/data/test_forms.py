"""Every form of a training file: what is read of it, and what a run says of it."""

import gzip
import json
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.data.batches import training_batches
from simcse_tf.data.files import open_file


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def read_all(source):
    return [
        tuple(text.decode() for text in row) for row in source.read(range(len(source)))
    ]


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


FORMS = {
    "sentences": ("a.txt", "one\n\ntwo\n", [("one",), ("two",)]),
    "paper": ("a.csv", "sent0,sent1,hard_neg\na,b,c\n", [("a", "b", "c")]),
    "st": ("a.csv", "anchor,positive,negative\na,b,c\n", [("a", "b", "c")]),
    "order": ("a.csv", "positive,anchor\nb,a\n", [("a", "b")]),
    "scored": (
        "a.csv",
        "sentence1,sentence2,score\na,b,4.20\nc,d,3\ne,f,\n",
        [("a", "b", "4.2"), ("c", "d", "3.0")],
    ),
    "text": ("a.csv", 'text\n"one, two"\n\nthree\n', [("one, two",), ("three",)]),
    "sentence": ("a.jsonl", lines({"sentence": "a"}), [("a",)]),
    "negatives": (
        "a.csv",
        "sent0,sent1,hard_neg_2,hard_neg\na,b,d,c\ne,f,, \ng,h,i,\n",
        [("a", "b", "c", "d"), ("e", "f", "", ""), ("g", "h", "i", "")],
    ),
    "numbered": (
        "a.jsonl",
        lines(
            {"anchor": "a", "positive": "b"},
            {"negative_10": "e", "negative_2": "d", "anchor": "a", "positive": "b"},
            {"anchor": "a", "positive": "b", "negative_1": "c", "negative_2": None},
        ),
        [("a", "b", "", ""), ("a", "b", "d", "e"), ("a", "b", "c", "")],
    ),
    "list": (
        "a.jsonl",
        lines(
            {"anchor": "a", "positive": "b", "negative": ["c", "", "d"]},
            {"anchor": "e", "positive": "f", "negative": []},
        ),
        [("a", "b", "c", "d"), ("e", "f", "", "")],
    ),
    "ids": (
        "a.csv",
        ",id,sent0,sent1\n0,x1,a,b\n",
        [("a", "b")],
    ),
    "tsv": ("a.tsv", 'sent0\tsent1\n"a\t"b" c\n', [('"a', '"b" c')]),
    "spreadsheet": (
        "a.csv",
        b'\xef\xbb\xbf"sent0","sent1"\r\n"a, ""b""","c\r\nd"\r\n',
        [('a, "b"', "c\r\nd")],
    ),
    "nli": (
        "a.csv",
        "premise,hypothesis,label\np,yes,entailment\np,no,contradiction\n",
        [("p", "yes", "no")],
    ),
    "parquet": (
        "a.parquet",
        {"anchor": ["a", None], "positive": ["b", "c"], "negative": [["d"], []]},
        [("a", "b", "d")],
    ),
    "parquet scores": (
        "a.parquet",
        {
            "id": [1, 2],
            "sentence1": ["a", "c"],
            "sentence2": ["b", "d"],
            "score": [0.5, float("nan")],
        },
        [("a", "b", "0.5")],
    ),
    "gz": ("a.csv.gz", gzip.compress(b"sent0,sent1\na,b\n"), [("a", "b")]),
    "zst": (
        "A.TXT.ZST",
        pa.compress(b"\xef\xbb\xbfa\r\nb", codec="zstd", asbytes=True),
        [("a",), ("b",)],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read(write, name):
    file, content, rows = FORMS[name]
    source = open_file(write(file, content))
    assert read_all(source) == rows
    assert source.columns == len(rows[0]) - source.scored
    assert source.scored == ("score" in name)


CHOSEN = {
    "pairs": (
        "a.csv",
        "url,question,answer\nu,a,b\n",
        {"anchor": "question", "positive": "answer"},
        [("a", "b")],
    ),
    "negatives": (
        "a.jsonl",
        lines({"q": "a", "a": "b", "n": ["c", "d"], "m": "e"}, {"q": "f", "a": "g"}),
        {"anchor": "q", "positive": "a", "negative": ["m", "n"]},
        [("a", "b", "e", "c", "d"), ("f", "g", "", "", "")],
    ),
    "scores": (
        "a.tsv",
        "left\tright\tgold\tgenre\na\tb\t1e-3\tnews\n",
        {"anchor": "left", "positive": "right", "score": "gold"},
        [("a", "b", "0.001")],
    ),
    "text": ("a.parquet", {"id": [7], "body": ["a"]}, {"text": "body"}, [("a",)]),
    "snli": (
        "a.jsonl",
        lines(
            {"gold_label": "entailment", "sentence1": "p", "sentence2": "yes"},
            {"gold_label": "contradiction", "sentence1": "p", "sentence2": "no"},
        ),
        {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
        [("p", "yes", "no")],
    ),
    # A name that would mean something else.
    "other meaning": (
        "a.csv",
        "positive,negative\na,b\n",
        {"anchor": "positive", "positive": "negative"},
        [("a", "b")],
    ),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_data_columns_says_what_columns_mean(write, name):
    file, content, columns, rows = CHOSEN[name]
    assert read_all(open_file(write(file, content), columns)) == rows


PAIR = {"anchor": "q", "positive": "a"}
REFUSED = {
    "unknown": (
        "a.csv",
        "sent0,sent1,title\n",
        None,
        r"line 1: .*'title' is none .*data\.columns",
    ),
    "alone": ("a.csv", "sent0\na\n", None, r"line 1: expected the columns"),
    "score with negatives": ("a.csv", "sent0,sent1,hard_neg,score\n", None, "line 1: "),
    "twice": ("a.csv", "sent0,sent0\na,b\n", None, "'sent0' is there twice"),
    "same": (
        "a.csv",
        "sent0,anchor,sent1\n",
        None,
        "'sent0' and 'anchor' mean the same",
    ),
    "same number": (
        "a.csv",
        "sent0,sent1,hard_neg2,hard_neg_2\n",
        None,
        "mean the same",
    ),
    "two roles": ("a.csv", "q,a\nb,c\n", {"anchor": "q", "positive": "q"}, "two roles"),
    "many": (
        "a.csv",
        "q,a\n",
        {"anchor": ["q", "r"], "positive": "a"},
        "one column for",
    ),
    "role": ("a.csv", "q,a\n", {"anker": "q"}, r"data\.columns: expected the roles"),
    "lone role": (
        "a.csv",
        "q,a\n",
        {"anchor": "q"},
        r"data\.columns: expected the roles",
    ),
    "missing": (
        "a.csv",
        "q,b\n",
        PAIR,
        "line 1: .*expected a column 'a', received q,b",
    ),
    "no such negative": (
        "a.jsonl",
        lines({"q": "a", "a": "b", "n": "c"}),
        {**PAIR, "negative": ["n", "m"]},
        "no row has a column 'm'",
    ),
    "txt": ("a.txt", "a\n", PAIR, r"data\.columns: .* a sentence a line"),
    "score": (
        "a.csv",
        'sentence1,sentence2,score\na,b,"4,2"\n',
        None,
        r'line 2: expected a number in score, received "4,2"',
    ),
    "infinite": (
        "a.jsonl",
        lines({"sentence1": "a", "sentence2": "b", "score": "inf"}),
        None,
        "a number",
    ),
    "truth": (
        "a.jsonl",
        lines({"sentence1": "a", "sentence2": "b", "score": True}),
        None,
        "a number",
    ),
    "label": (
        "a.csv",
        "premise,hypothesis,label\np,h,maybe\n",
        None,
        "line 2: expected entailment, neutral",
    ),
    "kinds": (
        "a.jsonl",
        lines({"sent0": "a", "sent1": "b"}, {"text": "c"}),
        None,
        "line 2: expected the columns sent0,sent1 as in the rows before, received text",
    ),
    "number": (
        "a.jsonl",
        lines({"text": 3}),
        None,
        "line 1: expected a string in text, received 3",
    ),
    "nested": (
        "a.jsonl",
        lines({"sent0": ["a"], "sent1": "b"}),
        None,
        "expected a string in sent0",
    ),
    "semicolons": (
        "a.csv",
        "sent0;sent1\na;b\n",
        None,
        "line 1: .*separated by commas, received",
    ),
    "utf-16": (
        "a.csv",
        "sent0,sent1\na,b\n".encode("utf-16"),
        None,
        "line 1: not valid UTF-8",
    ),
    "latin-1": (
        "a.csv",
        "sent0,sent1\na,b\né,c\n".encode("latin-1"),
        None,
        "line 3: not valid UTF-8",
    ),
    "packed latin-1": (
        "a.txt.gz",
        gzip.compress("a\né\n".encode("latin-1")),
        None,
        "line 2: not valid UTF-8",
    ),
    "packed semicolons": (
        "a.csv.gz",
        gzip.compress(b"sent0;sent1\n"),
        None,
        "separated by commas",
    ),
    "no gzip": ("a.txt.gz", "a\n", None, "is cut short or damaged: Not a gzipped file"),
    "cut gzip": (
        "a.txt.gz",
        gzip.compress(b"abc\n" * 99)[:-9],
        None,
        "is cut short or damaged",
    ),
    "broken gzip": (
        "a.txt.gz",
        gzip.compress(b"abc\n" * 99)[:-8] + b"12345678",
        None,
        "damaged: CRC",
    ),
    "no zstd": ("a.txt.zst", "a\n", None, "is cut short or damaged"),
    "cut zstd": (
        "a.txt.zst",
        pa.compress(b"a\n" * 99, codec="zstd", asbytes=True)[:-1],
        None,
        "damaged",
    ),
    "empty gzip": ("a.csv.gz", gzip.compress(b""), None, r"a\.csv\.gz is empty"),
    "packed parquet": ("a.parquet.gz", "", None, r"received \.parquet\.gz"),
    "bare gz": ("a.gz", "", None, r"received \.gz"),
    "no parquet": ("a.parquet", "PAR1 and no more", None, r"a\.parquet: .*Parquet"),
    "parquet columns": (
        "a.parquet",
        {"a": ["b"]},
        None,
        r"a\.parquet: expected the columns .*received a",
    ),
    "parquet numbers": (
        "a.parquet",
        {"text": [1]},
        None,
        r"a\.parquet, row 1: expected a string in text",
    ),
    "parquet structs": (
        "a.parquet",
        {"text": [{"a": "b"}]},
        None,
        "row 1: expected a string",
    ),
    "parquet bytes": (
        "a.parquet",
        {"text": [b"\xff"]},
        None,
        r"a\.parquet: .*invalid start byte",
    ),
    "empty parquet": (
        "a.parquet",
        {"text": pa.array([], pa.string())},
        None,
        "is empty",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(write, name):
    file, content, columns, message = REFUSED[name]
    path = write(file, content)
    with pytest.raises(UserError, match=message) as caught:
        open_file(path, columns)
    assert "\n" not in str(caught.value)
    assert file in str(caught.value) or "data.columns" in str(caught.value)


def test_a_run_is_told_how_a_file_was_read(write):
    rows = "a,b,c\n" * 3 + "a,e,\n ,b,\n" + 'x,"two\nlines, long",\n'
    path = write("a.csv", "sent0,sent1,hard_neg\n" + rows)
    assert open_file(path).notes == (
        f"{path}: 5 triplets (anchor: sent0, positive: sent1, negative: hard_neg); 1 "
        "rows with a blank text left out; 3 repeat an earlier anchor, 2 repeat an "
        "earlier positive; the longest has 16 characters (lines 7 to 8)",
    )
    path = write("a.parquet", {"idx": [1, 2], "text": ["one", "three"]})
    assert open_file(path).notes == (
        f"{path}: 2 sentences (text: text, ignored: idx); no repeats; the longest has "
        "5 characters (row 2)",
    )


def test_a_disk_that_is_full_is_told(write, monkeypatch):
    path = write("a.txt.gz", gzip.compress(b"a\n" * 2**16))
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "r+b"))
    with pytest.raises(UserError, match=r"cannot unpack .* to /.*: No space .*TMPDIR"):
        open_file(path)


def test_what_was_unpacked_is_read_on_and_leaves_nothing(write, tmp_path, monkeypatch):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    source = open_file(write("a.txt.gz", gzip.compress(b"one\ntwo\n")))
    write("a.txt.gz", b"other")
    assert read_all(source) == [("one",), ("two",)]
    assert not list(spare.iterdir())


@pytest.mark.parametrize(
    "name", ["negatives", "list", "scored", "nli", "parquet", "gz"]
)
def test_a_run_resumes_with_the_batches_of_every_form(write, name):
    file, content, rows = FORMS[name]
    if isinstance(content, dict):
        content = {key: values * 9 for key, values in content.items()}
    elif name == "gz":
        content = gzip.compress(b"sent0,sent1\n" + b"a,b\nc,d\n" * 9)
    elif name == "nli":
        head, *body = content.splitlines(keepends=True)
        content = head + "".join(
            line.replace("p,", f"p{i},") for i in range(9) for line in body
        )
    else:
        head = content.splitlines(keepends=True)[: file.endswith("csv")]
        content = content + "".join(content.splitlines(keepends=True)[len(head) :]) * 8
    path = write(file, content)

    def drawn(first):
        source = open_file(path)
        batches = training_batches(source, 4, first, 5, seed=3)
        return source.fingerprint, [[c.numpy().tolist() for c in b] for b in batches]

    fingerprint, whole = drawn(0)
    assert len(whole[0]) == len(rows[0])
    assert drawn(2) == (fingerprint, whole[2:])
