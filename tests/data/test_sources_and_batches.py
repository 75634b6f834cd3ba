import csv
import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.batches import steps_per_epoch, training_batches
from simcse_tf.data.sources import open_one, open_source

TRIPLETS = [
    ("A man sleeps.", "A person rests.", "A man runs."),
    ('He said "stop", twice.', "He spoke.", "He was silent."),
    ("Zwei Männer,\nein Hund", "两个人", "nobody 🙂"),
]
# Python 3.10's csv module can neither write nor read NUL.
NUL = "\0" if sys.version_info < (3, 11) else ""
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=NUL), max_size=20
)
SENTENCE = TEXT.filter(lambda text: text.strip())


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def as_csv(rows, delimiter=",", header=("sent0", "sent1", "hard_neg")):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([header[: len(rows[0])], *rows])
    return out.getvalue()


def as_jsonl(rows):
    names = ("hard_neg", "sent1", "sent0")
    return "".join(
        json.dumps(dict(zip(names, row[::-1], strict=True))) + "\n" for row in rows
    )


def read_all(source):
    return [
        tuple(text.decode() for text in row) for row in source.read(range(len(source)))
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", as_csv(TRIPLETS)),
        ("t.jsonl", as_jsonl(TRIPLETS)),
        ("bom.csv", b"\xef\xbb\xbf" + as_csv(TRIPLETS).encode()),
        ("UPPER.CSV", as_csv(TRIPLETS)),
    ],
)
def test_triplets_read_the_same_from_every_format(write, name, content):
    source = open_source(write(name, content))
    assert source.columns == 3
    assert read_all(source) == TRIPLETS


def test_a_text_file_gives_a_sentence_a_line_and_counts_blank_ones(write):
    source = open_source(write("t.txt", "\ufeffone\r\n\n  \ntwo, three\nfour"))
    assert read_all(source) == [("one",), ("two, three",), ("four",)]
    assert (source.columns, source.skipped) == (1, 2)


def test_pairs_are_read_and_rows_with_an_empty_sentence_skipped(write):
    source = open_source(write("t.csv", "sent0,sent1\na,b\nc,\n\nd,e\n"))
    assert read_all(source) == [("a", "b"), ("d", "e")]
    assert (source.columns, source.skipped) == (2, 2)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from(["f.txt", "f.csv", "f.tsv", "f.jsonl"]))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    try:
        source = open_source(str(tmp_path / name))
    except UserError as error:
        assert name in str(error)
        assert "\n" not in str(error)
    else:
        assert len(read_all(source)) == len(source) > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.txt", "", r"e\.txt is empty"),
        ("e.txt", "\n \n", r"e\.txt is empty"),
        ("e.csv", "", r"e\.csv is empty"),
        ("e.csv", "sent0,sent1\n", r"e\.csv is empty"),
        ("u.txt", b"ok\nbad \xff\n", r"u\.txt, line 2: not valid UTF-8 .*byte 5"),
        (
            "u.csv",
            b"sent0,sent1\na,b\n\xe2\x82,c\n",
            r"u\.csv, line 3: not valid UTF-8",
        ),
        (
            "c.csv",
            "sent0,sent1\na,b\na,b,c\n",
            r"c\.csv, line 3: expected 2 .*received 3",
        ),
        ("c.csv", 'sent0,sent1\n"a\nb",c\nd\n', r"c\.csv, line 4: expected 2"),
        ("c.tsv", "sent0\tsent1\na,b\n", r"c\.tsv, line 2: expected 2 .*received 1"),
        ("q.csv", 'sent0,sent1\na,"b\n', r"q\.csv, line 2: unexpected end"),
        ("h.csv", "a,b\nc,d\n", r"h\.csv, line 1: .*or .*received a,b .*data\.columns"),
        ("h.tsv", "sent0,sent1\na,b\n", r"h\.tsv, line 1: .* separated by tabs"),
        ("j.jsonl", '{"a": "b"}\n', r"j\.jsonl, line 1: expected .*received a"),
        ("j.jsonl", "{}\n", r"j\.jsonl, line 1: expected .*received none"),
        ("j.jsonl", "[1]\n", r"j\.jsonl, line 1: expected a JSON object"),
        ("j.jsonl", '{"sent0": "a"', r"j\.jsonl, line 1 is not valid JSON"),
        (
            "j.jsonl",
            '{"sent0": "a", "sent1": "b"}\n{"sent0": "a", "sent1": 3}\n',
            r"line 2: expected a string",
        ),
        (
            "j.jsonl",
            '{"sent0": "a", "sent1": "b"}\n{"sent0": "a"}\n',
            r"line 2: expected the columns sent0,sent1.*received sent0;",
        ),
        ("x.json", "x", r"x\.json: expected a \.txt.*received \.json"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(write, name, content, message):
    with pytest.raises(UserError, match=message):
        open_source(write(name, content))


def test_a_missing_file_and_an_unknown_data_set_are_refused():
    with pytest.raises(UserError, match=r"cannot read nowhere\.txt: No such file"):
        open_source("nowhere.txt")
    with pytest.raises(UserError, match=r"cannot prepare tfds:no_such_data_set"):
        open_source("tfds:no_such_data_set")


@pytest.fixture
def numbers(write):
    """A source whose sentence number i is str(i), and 23 of them."""
    return open_source(write("n.txt", "".join(f"{i}\n" for i in range(23))))


def drawn(source, *args, **kwargs):
    return [
        [int(text) for text in columns[0].numpy()]
        for columns in training_batches(source, *args, **kwargs)
    ]


def test_without_shuffling_batches_come_in_file_order_and_drop_the_short_one(numbers):
    steps = steps_per_epoch(numbers, 5)
    assert steps == 4
    epoch = [list(range(i, i + 5)) for i in range(0, 20, 5)]
    assert drawn(numbers, 5, 0, 2 * steps, shuffle=False) == epoch * 2


def test_every_epoch_has_an_order_of_its_own_without_repeats(numbers):
    steps = steps_per_epoch(numbers, 5)
    epochs = [np.ravel(drawn(numbers, 5, e * steps, (e + 1) * steps)) for e in range(8)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    # What is dropped differs from epoch to epoch, so nothing is never seen.
    assert set(np.concatenate(epochs)) == set(range(23))


def test_batches_depend_on_seed_and_step_alone(numbers):
    whole = drawn(numbers, 5, 0, 12, seed=1)
    assert drawn(numbers, 5, 7, 12, seed=1) == whole[7:]
    assert drawn(numbers, 5, 0, 12, seed=1) == whole
    assert drawn(numbers, 5, 0, 12, seed=2) != whole


def test_columns_stay_together_under_shuffling(write):
    rows = [(f"a{i}", f"b{i}", f"c{i}") for i in range(30)]
    source = open_source(write("t.csv", as_csv(rows)))
    for columns in training_batches(source, 10, 0, 6):
        for row in zip(*(column.numpy() for column in columns), strict=True):
            assert len({text[1:] for text in row}) == 1
            assert [text[:1] for text in row] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "workers", "each"),
    [(6, 1, 1), (6, 1, 2), (6, 3, 1), (6, 3, 2), (8, 2, 2)],
)
def test_workers_and_replicas_see_the_batches_of_one_device(
    numbers, batch_size, workers, each, shuffle
):
    own = [range(i * each, (i + 1) * each) for i in range(workers)]
    for first in (0, 1, 5):
        steps = (batch_size, first, 8)
        streams = [
            drawn(numbers, *steps, shuffle=shuffle, parts=workers * each, own_parts=o)
            for o in own
        ]
        # A worker's parts of a step side by side, and then those of all workers.
        rows = [np.reshape(stream, (8 - first, -1)) for stream in streams]
        found = np.concatenate(rows, axis=1).tolist()
        assert found == drawn(numbers, *steps, shuffle=shuffle)


def test_only_the_own_parts_are_read(numbers):
    read = []

    class Watched:
        columns, scored = 1, False

        def __len__(self):
            return len(numbers)

        def read(self, indices, epoch):
            read.extend(indices)
            return numbers.read(indices, epoch)

    drawn(Watched(), 4, 0, 2, shuffle=False, parts=4, own_parts=range(2, 4))
    assert read == [2, 3, 6, 7]


def test_fewer_examples_than_a_batch_is_refused(numbers):
    with pytest.raises(UserError, match=r"23 examples, fewer than one batch .*24"):
        steps_per_epoch(numbers, 24)


def test_a_tfds_data_set_gives_the_batches_of_its_file(tmp_path, monkeypatch):
    rows = [(f"premise {i}", f"entailed {i}", f"denied {i}") for i in range(9)]
    manual = tmp_path / "tfds" / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "nli_for_simcse.csv").write_text(as_csv(rows), newline="")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(
        "tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path / "tfds")
    )
    source = open_source("tfds:nli_for_simcse")
    assert source.columns == 3
    assert read_all(source) == rows
    [first, *_] = training_batches(source, 4, 0, 2, shuffle=False)
    assert [text.decode() for text in first[2].numpy()] == [r[2] for r in rows[:4]]
    pairs = open_one("tfds:nli_for_simcse", {"anchor": "sent1", "positive": "hard_neg"})
    assert read_all(pairs) == [row[1:] for row in rows]
    with pytest.raises(UserError, match=r"tfds:nli_.*expected a column 'a', received"):
        open_one("tfds:nli_for_simcse", {"text": "a"})
    assert re.fullmatch(
        r"nli_for_simcse/[\d.]+, 9 examples, \d+ bytes", source.fingerprint
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.open("w").close(),
        lambda path: path.open("r+b").truncate(10),
        lambda path: path.write_text(path.read_text()[::-1]),
        lambda path: path.open("a").write("more\n"),
    ],
    ids=["emptied", "cut", "rewritten", "longer"],
)
def test_a_file_that_changes_under_a_run_is_told_and_not_read(
    write, numbers, tmp_path, change
):
    change(tmp_path / "n.txt")
    problems = []
    with pytest.raises(tf.errors.OpError):
        list(training_batches(numbers, 5, 0, 4, problems=problems))
    assert "n.txt was changed while it was in use" in str(problems[0])
    with pytest.raises(UserError, match="was changed while it was in use"):
        numbers.read([0])


def test_a_file_that_is_touched_or_replaced_is_read_on(numbers, tmp_path):
    path = tmp_path / "n.txt"
    os.utime(path)
    assert numbers.read([3]) == [(b"3",)]
    (tmp_path / "other").write_text("x\n" * 30)
    (tmp_path / "other").replace(path)
    assert numbers.read([4]) == [(b"4",)]
    path.unlink()
    assert numbers.read([5]) == [(b"5",)]


def test_a_file_that_changes_while_it_is_indexed_is_told(write, monkeypatch):
    path = write("n.txt", "one\ntwo\n")
    lines = LocatedLines.__iter__

    def write_meanwhile(self):
        yield from lines(self)
        Path(path).write_text("one\nTWO\n")

    monkeypatch.setattr(LocatedLines, "__iter__", write_meanwhile)
    with pytest.raises(UserError, match="was changed while it was in use"):
        open_source(path)


def test_a_fingerprint_is_that_of_the_content(write, numbers):
    path = write("other.txt", "".join(f"{i}\n" for i in range(23)))
    assert open_source(path).fingerprint == numbers.fingerprint
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert numbers.fingerprint == f"sha256 {digest}"
    shorter = write("other.txt", "".join(f"{i}\n" for i in range(1, 24)))
    assert open_source(shorter).fingerprint != numbers.fingerprint
