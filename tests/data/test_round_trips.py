"""What others write is read as they wrote it: csv, json and pyarrow, packed or not."""

import csv
import gzip
import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.data.files import open_file

# Python 3.10's csv module can neither write nor read NUL.
# Hypothesis' table of characters is made once, and takes seconds.
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
NUL = "\0" if sys.version_info < (3, 11) else ""
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=NUL), max_size=12
)
PLAIN = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=NUL + "\t\r\n"),
    max_size=12,
)


def rows_of(text):
    filled = text.filter(lambda text: text.strip())
    negatives = st.lists(filled, max_size=3)
    row = st.builds(lambda a, b, n: (a, b, *n), filled, filled, negatives)
    return st.lists(row, min_size=1, max_size=6)


def few(given_rows):
    limits = settings(deadline=None, max_examples=40, suppress_health_check=CHECKS)
    return lambda test: limits(given(given_rows)(test))


def padded(rows):
    width = max(map(len, rows))
    return [row + ("",) * (width - len(row)) for row in rows]


def header(rows):
    return ["sent0", "sent1", "hard_neg", "hard_neg2", "hard_neg3"][
        : max(map(len, rows))
    ]


def as_csv(rows, **dialect):
    out = io.StringIO(newline="")
    csv.writer(out, **dialect).writerows([header(rows), *padded(rows)])
    return out.getvalue().encode()


def read_back(path, **how):
    source = open_file(str(path), **how)
    return [
        tuple(text.decode() for text in row) for row in source.read(range(len(source)))
    ]


@few(rows_of(TEXT))
def test_any_text_survives_csv_and_quoted_tsv(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(as_csv(rows, lineterminator="\n"))
    assert read_back(path) == padded(rows)
    path = tmp_path / "a.tsv"
    path.write_bytes(as_csv(rows, delimiter="\t", quoting=csv.QUOTE_ALL))
    assert read_back(path, quoting="quoted") == padded(rows)


@few(rows_of(PLAIN))
def test_any_text_survives_tsv_unless_it_looks_quoted(tmp_path, rows):
    path = tmp_path / "a.tsv"
    lines = [header(rows), *padded(rows)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), newline="")
    assert read_back(path, quoting="none") == padded(rows)
    try:
        assert read_back(path) == padded(rows)
    except UserError as error:
        assert "looks quoted" in str(error)
        assert any('""' in text for row in rows for text in row)


@few(rows_of(PLAIN))
def test_a_tsv_that_a_csv_writer_made_is_read_so_or_refused(tmp_path, rows):
    path = tmp_path / "a.tsv"
    path.write_bytes(as_csv(rows, delimiter="\t"))
    try:
        assert read_back(path) == padded(rows)
    except UserError as error:
        assert "looks quoted" in str(error)
        assert any('"' in text for row in rows for text in row)


@few(rows_of(TEXT))
def test_any_text_survives_json_and_parquet(tmp_path, rows):
    values = [{"anchor": a, "positive": b, "negative": n} for a, b, *n in rows]
    lines = "".join(json.dumps(value) + "\n" for value in values)
    path = tmp_path / "a.jsonl"
    path.write_text(lines)
    assert read_back(path) == padded(rows)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(values), path, row_group_size=2)
    assert read_back(path) == padded(rows)


@few(rows_of(TEXT))
def test_what_is_packed_is_read_as_what_it_holds(tmp_path, rows):
    content = as_csv(rows)
    plain = tmp_path / "a.csv"
    plain.write_bytes(content)
    half = len(content) // 2
    # Packers may write a file in several parts.
    for suffix, pack in ((".gz", gzip.compress), (".zst", zstd)):
        path = tmp_path / f"a.csv{suffix}"
        path.write_bytes(pack(content[:half]) + pack(content[half:]))
        assert read_back(path) == read_back(plain)


def zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


@settings(deadline=None, max_examples=60, suppress_health_check=CHECKS)
@given(st.binary(max_size=60), st.sampled_from([".gz", ".zst", ".parquet"]), st.data())
def test_packed_bytes_are_read_or_refused_in_one_line(tmp_path, content, suffix, data):
    if suffix == ".parquet":
        whole = io.BytesIO()
        pq.write_table(pa.table({"text": ["one", "two"]}), whole)
        packed, name = whole.getvalue(), "a.parquet"
    else:
        packed = (gzip.compress if suffix == ".gz" else zstd)(content)
        name = f"a.csv{suffix}"
    place = data.draw(st.integers(0, len(packed)))
    path = tmp_path / name
    path.write_bytes(packed[:place] + content[:3] + packed[place + 3 :])
    try:
        open_file(str(path))
    except UserError as error:
        assert name in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "quoting", "rows"),
    [
        # A lone mark at the start of a field, and one at the end of a later one.
        (
            'sent0\tsent1\n"a\tb\nc\td\ne\tf"\n',
            None,
            [('"a', "b"), ("c", "d"), ("e", 'f"')],
        ),
        ('sent0\tsent1\n"a\tb\n', None, [('"a', "b")]),
        ('sent0\tsent1\n"a"\tb\n', None, [('"a"', "b")]),
        ('sent0\tsent1\r\n"a"\tb\r\n', "quoted", [("a", "b")]),
        ('"sent0"\t"sent1"\n"a ""b"""\t"c"\n', None, [('a "b"', "c")]),
        ('sent0\tsent1\n"a ""b"""\t"c"\n', "none", [('"a ""b"""', '"c"')]),
        ('sent0\tsent1\n"a\nb"\t"c\td"\n', "quoted", [("a\nb", "c\td")]),
        ("sent0\tsent1\na\rb\tc\n", "none", [("a\rb", "c")]),
    ],
)
def test_a_tsv_is_read_as_it_is_meant(tmp_path, content, quoting, rows):
    path = tmp_path / "a.tsv"
    path.write_bytes(content.encode())
    assert read_back(path, quoting=quoting) == rows


@pytest.mark.parametrize(
    ("name", "content", "quoting", "message"),
    [
        ("a.tsv", 'sent0\tsent1\n"a ""b"""\tc\n', None, "line 2: .* looks quoted"),
        (
            "a.tsv",
            'sent0\tsent1\n"a\nb"\tc\n',
            None,
            "expected 2 columns, received 1; d",
        ),
        (
            "a.tsv",
            '"sent0"\t"sent1"\n"a\nb"\t"c"\n',
            None,
            "line 3: a field holds a tab",
        ),
        (
            "a.tsv",
            '"sent0"\t"sent1"\n"a\tb"\t"c"\n',
            None,
            "line 2: a field holds a tab",
        ),
        ("a.tsv", "sent0\tsent1\na\rb\tc\n", None, "line 2: .* carriage return"),
        (
            "a.csv",
            'sent0,sent1\n"a,b\nc,d\n',
            None,
            "unexpected end of data .*line 2 on",
        ),
        (
            "a.csv",
            "sent0,sent1\na,b,c\n",
            "none",
            "line 2: expected 2 columns, received 3",
        ),
        ("a.jsonl", "{}\n", "none", r"data\.quoting: expected a \.csv or \.tsv"),
    ],
)
def test_a_doubtful_file_is_refused(tmp_path, name, content, quoting, message):
    path = tmp_path / name
    path.write_bytes(content.encode())
    with pytest.raises(UserError, match=message):
        open_file(str(path), quoting=quoting)
