"""Hard negatives: exact search, without what is known to be a positive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.search.mining import Mined, Rule, hard_negatives

ANCHORS = np.array([[1.0, 0.0]])
POSITIVES = np.array([[4.0, 3.0]])  # cosine 0.8
# Cosines 1, 0.96, 0.8, 0.6, 0, -1.
CORPUS = np.array([[3, 0], [24, 7], [4, -3], [3, 4], [0, 1], [-1, 0]], float)


def mined(rule, excluded=frozenset()):
    [found] = hard_negatives(ANCHORS, POSITIVES, CORPUS, [excluded], rule)
    return found


def test_a_negative_is_less_similar_than_the_positive():
    found = mined(Rule(negatives=9, relative_margin=0.0))
    assert found == Mined([3, 4, 5], [0.6, 0.0, -1.0])


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        (Rule(negatives=1, relative_margin=0.0), [3]),
        (Rule(negatives=9, margin=0.3, relative_margin=0.0), [4, 5]),
        (Rule(negatives=9, relative_margin=0.5), [4, 5]),
        (Rule(negatives=9, relative_margin=0.0, skip=4), [4, 5]),
        (Rule(negatives=9, relative_margin=0.0, depth=4), [3]),
    ],
    ids=["one", "margin", "relative margin", "skip", "depth"],
)
def test_a_rule_narrows_the_candidates(rule, rows):
    assert mined(rule).rows == rows


def test_what_is_known_is_no_negative_and_takes_no_rank():
    assert mined(Rule(negatives=9, relative_margin=0.0, depth=1), {0, 1, 2}).rows == [3]
    assert mined(Rule(negatives=9), set(range(6))) == Mined([], [])


def test_a_random_choice_follows_from_seed_and_place_alone():
    random = np.random.default_rng(1)
    anchors, positives = random.normal(size=(2, 9, 4))
    corpus = random.normal(size=(200, 4))

    def rows(anchors, seed=1):
        rule = Rule(negatives=3, depth=150, sampling="random", seed=seed)
        own, known = positives[: len(anchors)], [set()] * len(anchors)
        found = hard_negatives(anchors, own, corpus, known, rule)
        return [each.rows for each in found]

    assert rows(anchors)[:4] == rows(anchors[:4])
    assert rows(anchors) != rows(anchors, seed=2)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    negatives=st.integers(1, 5),
    skip=st.integers(0, 3),
    margin=st.floats(0, 0.5),
    relative_margin=st.floats(0, 0.5),
)
def test_equals_a_loop_over_all_texts(seed, negatives, skip, margin, relative_margin):
    random = np.random.default_rng(seed)
    # Few values, hence ties.
    anchors, positives = random.integers(-1, 2, size=(2, 5, 3)) + 0.01
    corpus = random.integers(-1, 2, size=(30, 3)) + 0.01
    known = [set(random.integers(0, 30, 4).tolist()) for _ in range(5)]
    rule = Rule(negatives, skip, 20, margin, relative_margin)
    found = hard_negatives(anchors, positives, corpus, known, rule)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for anchor, positive, excluded, mined in zip(
        anchors, positives, known, found, strict=True
    ):
        score = round(cosine(anchor, positive), 6)
        ranked = sorted(
            (-round(cosine(anchor, text), 6), row)
            for row, text in enumerate(corpus)
            if row not in excluded
        )[:20][skip:]
        highest = min(score - margin, score * (1 - relative_margin))
        expected = [row for minus, row in ranked if -minus < highest][:negatives]
        assert mined.rows == expected
