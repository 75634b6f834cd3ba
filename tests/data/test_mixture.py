from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.data.batches import steps_per_epoch, training_batches
from simcse_tf.data.mixture import Mixture, Part
from simcse_tf.data.sources import open_source


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes files into the working directory."""
    monkeypatch.chdir(tmp_path)

    def files(**contents):
        for name, content in contents.items():
            name = name.replace("__", "/").replace("_", ".")
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)

    return files


def numbered(name, count):
    return "".join(f"{name}{number}\n" for number in range(count))


def read(source, epoch=0):
    rows = source.read(range(len(source)), epoch)
    return [tuple(text.decode() for text in row) for row in rows]


def drawn(source, *arguments, **keywords):
    batches = training_batches(source, *arguments, **keywords)
    return [[text.decode() for text in columns[0].numpy()] for columns in batches]


def test_several_files_are_the_same_as_one_with_all_their_lines(files):
    files(a_txt=numbered("a", 7), b_txt=numbered("b", 16), c_txt="c\n")
    files(all_txt=numbered("a", 7) + numbered("b", 16) + "c\n")
    several, one = open_source(["a.txt", "b.txt", "c.txt"]), open_source("all.txt")
    assert read(several) == read(one)
    assert drawn(several, 5, 0, 9) == drawn(one, 5, 0, 9)
    assert not several.varies
    assert [note.partition(";")[0] for note in several.notes] == [
        "a.txt: 7 sentences",
        "b.txt: 16 sentences",
        "c.txt: 1 sentences",
    ]


def test_a_glob_gives_its_files_by_name_and_counts_blank_lines(files):
    files(s__b_txt="b\n\n", s__a_txt="a\n", s__c_csv="sent0,sent1\nx,y\n")
    files(**{"d[1]_txt": "d\n", "d1_txt": "other\n"})
    source = open_source("s/*.txt")
    assert read(source) == [("a",), ("b",)]
    assert source.skipped == 1
    # A name that a file has is no glob.
    assert read(open_source(["d[1].txt", "s/**/b.txt"])) == [("d",), ("b",)]
    assert open_source(["s/a.txt"]).fingerprint == open_source("s/a.txt").fingerprint


def test_files_with_fewer_hard_negatives_lack_them(files):
    files(p_csv="sent0,sent1\na,b\n", t_csv="sent0,sent1,hard_neg\nc,d,e\n")
    source = open_source(["p.csv", "t.csv"])
    assert source.columns == 3
    assert read(source) == [("a", "b", ""), ("c", "d", "e")]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (["*.tsv"], r"data\.train: \*\.tsv matches no file"),
        ("no/*.txt", r"data\.train: no/\*\.txt matches no file"),
        (["a.txt", "no.txt"], r"cannot read no\.txt: No such file"),
        (["a.txt", "a.txt"], r"same data twice, as a\.txt and a\.txt: name them once"),
        (["*.txt", "./a.txt"], r"same data twice, as a\.txt and \./a\.txt"),
        (["tfds:x", "tfds:x"], r"same data twice, as tfds:x and tfds:x"),
        (["a.txt", "p.csv"], r"received single sentences in a\.txt and pairs in p\."),
        (["*"], r"expected a \.txt"),
        (["a\0*.txt"], r"a\\x00\*\.txt matches no file"),
    ],
)
def test_what_cannot_be_one_source_is_refused(files, train, message):
    files(a_txt="a\n", b_txt="b\n", p_csv="sent0,sent1\na,b\n", w_doc="w")
    with pytest.raises(UserError, match=message):
        open_source(train)


def test_a_weight_says_how_often_an_epoch_passes_through_a_file(files):
    files(a_txt=numbered("a", 12), b_txt=numbered("b", 5), c_txt=numbered("c", 3))
    source = open_source(
        [
            {"path": "a.txt", "weight": 0.25},
            {"path": "b.txt", "weight": 2},
            {"path": "c.txt"},
        ]
    )
    assert len(source) == 3 + 10 + 3
    assert source.notes[1] == "a.txt: weight 0.25, 3 examples an epoch"
    assert source.notes[3] == "b.txt: weight 2, 10 examples an epoch"
    assert source.varies
    first = [text for epoch in range(4) for (text,) in read(source, epoch)[:3]]
    assert sorted(first) == sorted(f"a{number}" for number in range(12))
    second = [text for epoch in range(4, 8) for (text,) in read(source, epoch)[:3]]
    assert sorted(second) == sorted(first)
    assert second != first
    for epoch in (0, 1):
        counts = Counter(text for (text,) in read(source, epoch)[3:])
        assert {f"b{number}": 2 for number in range(5)} == {
            text: count for text, count in counts.items() if text.startswith("b")
        }


@settings(deadline=None)
@given(st.floats(0.001, 4), st.integers(1, 30), st.booleans())
def test_no_example_comes_once_more_before_all_others_came(weight, examples, shuffle):
    class Numbers:
        columns, scored, varies, skipped, notes, fingerprint = 1, 0, False, 0, (), ""

        def __len__(self):
            return examples

        def read(self, indices, epoch=0):
            return [(index,) for index in indices]

    source = Mixture([Part("n", Numbers(), weight)], shuffle)
    assert len(source) == max(1, round(weight * examples))
    stream, epoch = [], 0
    while len(stream) < 3 * examples:
        stream += [index for (index,) in source.read(range(len(source)), epoch)]
        epoch += 1
    for start in range(0, 3 * examples, examples):
        assert sorted(stream[start : start + examples]) == list(range(examples))
    if not shuffle:
        assert stream[:examples] == list(range(examples))


def test_batches_of_a_mixture_resume_at_any_step_and_are_shared_by_replicas(files):
    files(a_txt=numbered("a", 23), b_txt=numbered("b", 11))
    train = ["a.txt", {"path": "b.txt", "weight": 1.5}]

    def opened():
        return open_source(train, seed=3)

    steps = steps_per_epoch(opened(), 4)
    whole = drawn(opened(), 4, 0, 3 * steps, seed=3)
    for first in (1, steps, 2 * steps + 3):
        assert drawn(opened(), 4, first, 3 * steps, seed=3) == whole[first:]
    streams = [
        drawn(opened(), 4, 0, steps, seed=3, parts=4, own_parts=range(i, i + 1))
        for i in range(4)
    ]
    side_by_side = [[*a, *b, *c, *d] for a, b, c, d in zip(*streams, strict=True)]
    assert side_by_side == whole[:steps]
    other = open_source(train, seed=4)
    assert drawn(other, 4, 0, steps, seed=3) != whole[:steps]


def test_without_shuffling_the_files_follow_each_other_and_so_do_their_parts(files):
    files(a_txt=numbered("a", 6), b_txt=numbered("b", 4))
    train = ["a.txt", {"path": "b.txt", "weight": 0.5}]
    source = open_source(train, shuffle=False)
    epochs = np.ravel(drawn(source, 4, 0, 4, shuffle=False)).reshape(2, 8).tolist()
    assert epochs[0] == ["a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1"]
    assert epochs[1] == ["a0", "a1", "a2", "a3", "a4", "a5", "b2", "b3"]


def test_the_fingerprint_is_that_of_files_order_and_weights(files):
    files(a_txt="a\n", b_txt="b\n", c_txt="b\n", d_txt="d\n")

    def fingerprint(*train):
        return open_source(list(train)).fingerprint

    same = fingerprint("a.txt", "b.txt")
    assert fingerprint("a.txt", {"path": "c.txt", "weight": 1}) == same
    others = [
        fingerprint("b.txt", "a.txt"),
        fingerprint("a.txt", "d.txt"),
        fingerprint("a.txt", {"path": "b.txt", "weight": 2}),
        fingerprint("a.txt", "b.txt", "c.txt"),
    ]
    assert len({same, *others}) == 5
