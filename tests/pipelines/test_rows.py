"""Files in parts: what `encode` reads, and what is wrong with the other rows."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.records import FileRecords
from simcse_tf.pipelines.row_formats import row_format
from simcse_tf.pipelines.rows import BadRow, TextRow, Wanted

TEXTS = ["A man plays.", "", "naïve 🎸", "tab\tand “marks”", "last"]


def rows_of(path, size=2, **wanted):
    """All rows of a file, read part by part, the last part first."""
    form = row_format(str(path))
    parts = form.parts(str(path), Wanted(**wanted), size)
    assert all(part.rows <= size for part in parts)
    read = [list(form.read(part)) for part in reversed(parts)]
    rows = [row for part in reversed(read) for row in part]
    assert [row.number for row in rows] == list(range(len(rows)))
    return rows


def texts_of(rows):
    return [row.text.decode() if isinstance(row, TextRow) else None for row in rows]


def example(**values):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {name: feature(value) for name, value in values.items()}
    whole = tf.train.Example(features=tf.train.Features(feature=features))
    return whole.SerializeToString()


def write(path, texts):
    """A file with texts and their numbers as ids, in the format of its name."""
    rows = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        quoted = ['"' + row["text"].replace('"', '""') + '"' for row in rows]
        lines = [f"{n},{text}" for n, text in enumerate(quoted)]
        path.write_text("\n".join(["id,text", *lines]) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif path.suffix == ".tfrecord":
        with tf.io.TFRecordWriter(str(path)) as file:
            for row in rows:
                file.write(example(id=int(row["id"]), text=row["text"].encode()))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("\n".join(texts).encode()))
    else:
        path.write_text("\n".join(texts))
    return path


@pytest.mark.parametrize(
    "name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv", "a.parquet", "a.tfrecord"]
)
def test_every_format_gives_the_texts_and_ids_that_stand_in_it(tmp_path, name):
    path = write(tmp_path / name, TEXTS)
    rows = rows_of(path)
    assert texts_of(rows) == TEXTS
    plain = ".txt" in name
    wanted = [None if plain else str(n) for n in range(len(TEXTS))]
    assert [row.id for row in rows] == wanted
    if name != "a.tfrecord":
        records = FileRecords(str(path), metadata=())
        assert [record.text.decode() for record in records] == TEXTS


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbffirst\r\n\xef\xbb\xbfsecond\n\xff\xfe bytes \x80\n\n\r\nx\x85y",
        b"\xef\xbb\xbf",
        b"\n",
        b"no end",
    ],
    ids=["marks", "mark", "blank", "endless"],
)
def test_lines_are_those_that_encode_reads(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    wanted = [record.text for record in FileRecords(str(path))]
    assert [row.text for row in rows_of(path, size=1)] == wanted


def test_bad_lines_of_json_say_why_and_hide_no_other(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "good"}\n{"text": 5}\n{"text": null}\n{"body": "x"}\n[1]\n\n{"te\n'
        '{"id": "other", "text": "good too"}\n{}\n'
    )
    rows = rows_of(path)
    assert texts_of(rows) == ["good", *[None] * 6, "good too", None]
    reasons = [row.reason for row in rows if isinstance(row, BadRow)]
    parts = [
        *("a string in text, received 5", "null", "a column 'text'", "a JSON object"),
        *("a blank line", "not valid JSON", "a column 'text'"),
    ]
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason
    # The first row has no id: no later one has.
    assert rows[7].id is None


def test_a_bad_row_of_a_csv_file_ends_where_it_does(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'id,text\n1,"two\nlines"\n2,"never closed\n3,good\n4,one,two\n'
        '5,"three\nlines\nhere",more\n\n7,"a ""b"" c"\n'
    )
    rows = rows_of(path)
    assert texts_of(rows) == ["two\nlines", None, "good", None, None, None, 'a "b" c']
    assert [row.id for row in rows if isinstance(row, TextRow)] == ["1", "3", "7"]
    reasons = [row.reason for row in rows if isinstance(row, BadRow)]
    assert "columns" in reasons[1]
    assert "blank line" in reasons[3]
    assert not any(str(tmp_path) in reason or "line 1" in reason for reason in reasons)


def test_bad_records_and_values_of_other_types_say_why(tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as file:
        for record in (
            *(example(text=b"good"), b"\xff no example", example(text=7)),
            *(example(body=b"x"), example(text=b"\xff")),
        ):
            file.write(record)
    rows = rows_of(path)
    assert texts_of(rows) == ["good", None, None, None, "�"]
    table = pa.table({"text": ["good", None, "x"], "id": pa.array([1, 2, None])})
    pq.write_table(table, tmp_path / "b.parquet")
    rows = rows_of(tmp_path / "b.parquet")
    assert texts_of(rows) == ["good", None, None]
    assert rows[0].id == "1"


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.txt", b"PAR1....", "Parquet data"),
        ("a.parquet", b"no parquet", "a.parquet"),
        ("a.tfrecord", b"no records at all", "cut short or damaged"),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "--text"),
        ("a.csv", b"a;b\n1;2\n", "separated by commas"),
        ("a.txt.gz", gzip.compress(b"line\n" * 999)[:-9], "cut short or damaged"),
    ],
)
def test_what_is_no_such_file_is_a_mistake_of_the_user(tmp_path, name, content, part):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=part):
        rows_of(path)
