import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.records import FileRecords, Record

ROWS = [
    {"id": "a", "text": "A man plays.", "stars": 5, "fresh": True, "note": None},
    {"id": "b", "text": "", "stars": 4, "fresh": False, "note": "Zürich\n"},
]
RECORDS = [
    Record("a", b"A man plays.", {"stars": 5, "fresh": True, "note": None}),
    Record("b", b"", {"stars": 4, "fresh": False, "note": "Zürich\n"}),
]


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
        return name

    return write


def test_formats_with_types_give_the_same_records(write):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    for name, content in {
        "r.jsonl": as_jsonl(ROWS),
        "r.jsonl.gz": gzip.compress(as_jsonl(ROWS)),
        "r.parquet": as_parquet(columns),
    }.items():
        records = FileRecords(write(name, content))
        # From the first one on each time.
        for _ in range(2):
            assert list(records) == RECORDS, name
        assert records.ids_given
        assert records.description == "text: text, id: id, metadata: stars fresh note"


def test_values_of_a_csv_file_are_texts(write):
    path = write("r.csv", '_id,body,stars\n7,"A, b",5\n07,c,\n')
    assert list(FileRecords(path, text="body")) == [
        Record("7", b"A, b", {"stars": "5"}),
        Record("07", b"c", {"stars": ""}),
    ]


def test_without_ids_rows_are_counted_from_0(write):
    for name, content in {
        "t.txt": "one\n\nthree\n",
        "t.csv": 'text\none\n""\nthree\n',
    }.items():
        records = FileRecords(write(name, content))
        assert not records.ids_given
        assert list(records) == [
            Record("0", b"one", {}),
            Record("1", b"", {}),
            Record("2", b"three", {}),
        ]
    assert list(FileRecords(write("e.txt", ""))) == []
    assert list(FileRecords(write("e.jsonl", ""))) == []


def test_columns_are_chosen(write):
    path = write("r.jsonl", as_jsonl(ROWS))
    assert [r.metadata for r in FileRecords(path, metadata=())] == [{}, {}]
    chosen = FileRecords(path, id="text", text="id", metadata=["stars"])
    with pytest.raises(UserError, match=r"r.jsonl, line 2: .* text, which is the id"):
        list(chosen)
    # The only column that is left is the text.
    path = write("q.csv", "key,words,year\nk,w,1999\n")
    assert list(FileRecords(path, id="key", metadata=["year"])) == [
        Record("k", b"w", {"year": "1999"})
    ]
    # What pandas numbers rows with says nothing.
    path = write("p.csv", ",text,year\n0,w,1999\n")
    assert list(FileRecords(path)) == [Record("0", b"w", {"year": "1999"})]


def test_a_json_row_may_lack_metadata(write):
    path = write(
        "r.jsonl",
        '{"text": "a", "year": 1}\n{"year": 2, "text": "b", "x": 1}\n{"text": "c"}\n',
    )
    assert [r.metadata for r in FileRecords(path)] == [
        {"year": 1}, {"year": 2, "x": 1}, {},
    ]  # fmt: skip
    assert [r.metadata for r in FileRecords(path, metadata=["year"])] == [
        {"year": 1}, {"year": 2}, {"year": None},
    ]  # fmt: skip

    with pytest.raises(UserError, match="no row of r.jsonl has a column 'z'"):
        list(FileRecords(path, metadata=["year", "z"]))


def test_halves_of_surrogate_pairs_stand_in_no_id(write):
    path = write("s.jsonl", '{"text": "\\ud83d", "note": "a\\ud83d"}\n')
    (record,) = FileRecords(path)
    assert record.metadata["note"].encode().startswith(b"a\xef\xbf\xbd")
    with pytest.raises(UserError, match="s.jsonl, line 1: expected Unicode in note"):
        FileRecords(path, id="note")


@pytest.mark.parametrize(
    ("name", "content", "keywords", "message"),
    [
        ("a.csv", "id,_id,text\n1,2,a\n", {}, "received id and _id: --id says"),
        ("b.csv", "a,b\n1,2\n", {}, "received a,b: --text says which"),
        ("c.csv", "text\na\n", {"id": "key"}, "expected a column 'key', received text"),
        ("d.csv", "text\na\n", {"metadata": ["x"]}, "expected a column 'x'"),
        ("e.csv", "text,x,x\na,1,2\n", {}, "'x' is there twice"),
        ("f.txt", "a\n", {"id": "key"}, "--id: f.txt has no columns"),
        ("g.jsonl", '{"text": "a", "m": {}}\n', {}, "null in m, received {}: --meta"),
        ("h.jsonl", '{"text": "a", "id": 1.5}\n', {}, "which is the id, received 1.5"),
        ("i.jsonl", '{"text": "a", "id": true}\n', {}, "the id, received true"),
        ("j.jsonl", '{"text": "a", "m": 9223372036854775808}\n', {}, "of 64 bits"),
        ("k.jsonl", '{"text": 7}\n', {}, "expected a string in text, received 7"),
        ("l.parquet", as_parquet({"a": ["x"], "b": ["y"]}), {}, "--text says which"),
        ("m.parquet", as_parquet({"text": ["x"]}), {"metadata": ["y"]}, "column 'y'"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 10 else "",
)
def test_what_cannot_be_understood_is_refused_at_once(
    write, name, content, keywords, message
):
    path = write(name, content)
    with pytest.raises(UserError) as error:
        FileRecords(path, **keywords)
    assert message in str(error.value)
