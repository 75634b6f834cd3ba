"""The labelled pairs of NLI become the paper's triplets."""

import csv

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.data.files import open_file

NAMES = {
    0: ["entailment", "0", " Entailment "],
    1: ["neutral", "1"],
    2: ["contradiction", "2"],
    -1: ["-", "-1", ""],
}


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("premise", "hypothesis", "label"), *rows])
    return str(path)


def triplets(rows):
    """The plain way: the first of each, in the order of the entailments."""
    first = {}
    for premise, hypothesis, label in rows:
        first.setdefault((premise, label), hypothesis)
    return [
        (premise, entailed, first[premise, 2])
        for (premise, label), entailed in first.items()
        if label == 0 and (premise, 2) in first
    ]


LABELLED = st.tuples(
    st.sampled_from("pqrstu"), st.text("abc", min_size=1), st.sampled_from(list(NAMES))
)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(LABELLED, min_size=1, max_size=30), st.randoms())
def test_each_premise_with_both_gives_one_triplet(tmp_path, rows, random):
    written = [(p, h, random.choice(NAMES[label])) for p, h, label in rows]
    path = write(tmp_path / "nli.csv", written)
    expected = triplets(rows)
    if not expected:
        with pytest.raises(UserError, match="expected premises with an entailment"):
            open_file(path)
        return
    source = open_file(path)
    read = source.read(range(len(source)))
    assert [tuple(text.decode() for text in row) for row in read] == expected
    order = list(range(len(source)))[::-1]
    assert source.read(order) == read[::-1]


def test_a_run_is_told_what_is_left_out(tmp_path):
    rows = [
        ("p", "yes", "entailment"),
        ("p", "perhaps", "neutral"),
        ("p", "no", "contradiction"),
        ("p", "never", "contradiction"),
        ("q", "yes", "entailment"),
        ("r", "yes", "entailment"),
        ("r", "", "neutral"),
        ("r", "no", "contradiction"),
        ("s", "what", "-"),
    ]
    path = write(tmp_path / "nli.csv", rows)
    source = open_file(path)
    assert (len(source), source.columns, source.skipped) == (2, 3, 1)
    assert source.notes == (
        f"{path}: 8 labelled pairs (premise: premise, hypothesis: hypothesis, label: "
        "label); 1 rows with a blank text left out; the longest has 8 characters "
        "(line 3)",
        f"{path}: 2 triplets, the first entailment and contradiction of each premise "
        "that has both; 1 repeats an earlier positive; left out: 1 entailments, 1 "
        "contradictions, 1 neutral pairs, 1 pairs without a label",
    )


def test_labels_alone_do_not_make_triplets(tmp_path):
    path = write(tmp_path / "nli.csv", [("p", "yes", "0"), ("q", "no", "2")])
    with pytest.raises(UserError, match="received 1 entailments, 1 contradictions"):
        open_file(path)
