import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.data.batches import training_batches
from simcse_tf.data.distinct_batches import distinct_batches
from simcse_tf.data.mixture import Mixture, Part
from simcse_tf.data.no_duplicates import NoDuplicates, text_numbers
from simcse_tf.data.permutation import permutation
from simcse_tf.data.positives import NextSentenceSource
from simcse_tf.data.sources import open_source


class Rows:
    """A source of rows in memory."""

    scored = varies = False
    skipped, notes = 0, ()

    def __init__(self, rows):
        self.rows = [tuple(text.encode() for text in row) for row in rows]
        self.columns = len(self.rows[0])

    @property
    def fingerprint(self):
        return hashlib.sha256(repr(self.rows).encode()).hexdigest()

    def __len__(self):
        return len(self.rows)

    def read(self, indices, epoch=0):
        return [self.rows[index] for index in indices]


def batches_of(plan, batch_size, epoch):
    positions = np.arange(plan.steps * batch_size)
    return plan.indices(epoch, positions).reshape(plan.steps, batch_size)


def assert_no_text_twice(rows):
    """`rows` are those of a batch; a row may hold a text twice."""
    texts = Counter(text for row in rows for text in set(row) if text)
    assert not texts or max(texts.values()) == 1


TEXTS = st.integers(0, 9)
TABLES = st.integers(1, 4).flatmap(
    lambda columns: st.lists(st.tuples(*[TEXTS] * columns), min_size=1, max_size=60)
)


@settings(deadline=None)
@given(TABLES, st.integers(1, 9))
def test_batches_are_full_hold_no_text_twice_and_no_row_twice(rows, batch_size):
    table = np.array(rows)
    plan = distinct_batches(table, batch_size)
    assert plan.shape[1] == batch_size
    assert len(np.unique(plan)) == plan.size
    for batch in plan:
        assert_no_text_twice(table[batch].tolist())
    if table.shape[1] == 1:
        # A text is in as many batches as it has rows, at most.
        copies = np.bincount(table[:, 0])
        steps = range(1, len(rows) // batch_size + 1)
        rooms = [copies[0] + np.minimum(copies[1:], n).sum() for n in steps]
        possible = sum(
            room >= n * batch_size for n, room in zip(steps, rooms, strict=True)
        )
        assert bool(possible) <= len(plan) <= possible


def test_where_nothing_repeats_the_order_is_kept():
    table = np.array([[0, 1], [2, 0], [3, 3], [0, 4], [5, 6]])
    assert distinct_batches(table, 2).tolist() == [[0, 1], [2, 3]]


def test_a_row_moves_to_the_first_batch_with_room_and_the_others_stay():
    table = np.array([[1], [1], [2], [3], [4], [1], [5]])
    assert distinct_batches(table, 3).tolist() == [[0, 6, 2], [3, 4, 5]]


def test_texts_count_across_columns_and_absent_negatives_do_not():
    rows = [("a", "b", ""), ("c", "d", ""), ("e", "a", ""), ("f", "g", "c")]
    numbers = text_numbers(Rows(rows))
    assert numbers[0, 0] == numbers[2, 1] != 0
    assert numbers[1, 0] == numbers[3, 2] not in (0, numbers[0, 0])
    assert np.count_nonzero(numbers) == 4
    plan = NoDuplicates(Rows(rows), batch_size=2)
    for batch in batches_of(plan, 2, epoch=0):
        assert sorted(batch) in ([0, 1], [2, 3], [0, 3], [1, 2])


def test_texts_of_a_common_kind_are_few_a_batch_and_the_rest_is_left_out():
    rows = [("ok",)] * 500 + [(f"text {number}",) for number in range(500)]
    plan = NoDuplicates(Rows(rows), batch_size=20)
    # 26 batches hold an "ok" each, and 494 others.
    assert plan.steps == 26
    for epoch in (0, 1, 2):
        for batch in batches_of(plan, 20, epoch):
            assert_no_text_twice([rows[index] for index in batch])
    assert "500 examples hold a text more than once" in plan.note
    assert "480 are in no batch of the first epoch" in plan.note


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_depends_on_its_number_and_the_seed_alone(shuffle):
    rows = [(f"text {number % 90}", f"other {number}") for number in range(200)]
    plan = NoDuplicates(Rows(rows), 32, shuffle, seed=5)
    found = [batches_of(plan, 32, epoch).tolist() for epoch in (0, 1, 2, 3)]
    again = NoDuplicates(Rows(rows), 32, shuffle, seed=5)
    assert [batches_of(again, 32, epoch).tolist() for epoch in (3, 1, 0)] == [
        found[3],
        found[1],
        found[0],
    ]
    if shuffle:
        assert len({str(batches) for batches in found}) == 4
        other = NoDuplicates(Rows(rows), 32, shuffle, seed=6)
        assert batches_of(other, 32, 0).tolist() != found[0]
        # What is left out is not the same each time.
        assert len(np.unique(found)) == 200
    else:
        assert found == [found[0]] * 4


def test_an_epoch_with_fewer_batches_takes_the_rest_from_the_first():
    rows = [("a",), ("a",), ("b",), ("c",)]
    plan = NoDuplicates(Rows(rows), 2)
    for epoch in range(20):
        batches = batches_of(plan, 2, epoch)
        assert len(batches) == plan.steps
        for batch in batches:
            assert_no_text_twice([rows[index] for index in batch])


def test_equal_lines_are_refused():
    with pytest.raises(UserError, match=r"no_duplicates: .* 64 examples, and no 8 of"):
        NoDuplicates(Rows([("the same",)] * 64), 8)


def test_drawn_texts_are_planned_as_they_are_drawn(tmp_path):
    lines = [f"sentence {number}\n" for number in range(40)]
    (tmp_path / "t.txt").write_text("".join(lines))
    source = NextSentenceSource(str(tmp_path / "t.txt"), next_k=3, seed=1)
    plan = NoDuplicates(source, 8)
    seen = set()
    for epoch in (0, 1, 2):
        for batch in batches_of(plan, 8, epoch):
            rows = source.read(batch.tolist(), epoch)
            assert_no_text_twice(rows)
            seen.update(rows)
    assert len(seen) > 40


def test_a_mixture_that_passes_twice_through_a_file_has_no_text_twice_a_batch():
    rows = Rows([(f"text {number}",) for number in range(10)])
    many = Rows([(f"other {number}",) for number in range(50)])
    source = Mixture([Part("a", rows, 2.5), Part("b", many)])
    plan = NoDuplicates(source, 15)
    for epoch in (0, 1, 2, 3):
        for batch in batches_of(plan, 15, epoch):
            assert_no_text_twice(source.read(batch.tolist(), epoch))


def drawn(source, *arguments, **keywords):
    batches = training_batches(source, *arguments, **keywords)
    return [[text.decode() for text in columns[0].numpy()] for columns in batches]


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_resume_at_any_step_and_are_shared_by_replicas(tmp_path, shuffle):
    lines = [f"{number % 30}\n" for number in range(100)]
    (tmp_path / "t.txt").write_text("".join(lines))
    source = open_source(str(tmp_path / "t.txt"))

    def planned():
        return {"plan": NoDuplicates(source, 8, shuffle)}

    steps = NoDuplicates(source, 8, shuffle).steps
    whole = drawn(source, 8, 0, 2 * steps + 3, **planned())
    assert all(len(set(batch)) == 8 for batch in whole)
    for first in (1, steps - 1, steps, 2 * steps + 1):
        resumed = drawn(source, 8, first, 2 * steps + 3, **planned())
        assert resumed == whole[first:]
    for parts in (2, 4):
        streams = [
            drawn(source, 8, 0, 5, parts=parts, own_parts=range(i, i + 1), **planned())
            for i in range(parts)
        ]
        side_by_side = np.concatenate(streams, axis=1)
        assert side_by_side.tolist() == whole[:5]


def test_a_file_that_changes_before_an_epoch_is_planned_is_told(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("".join(f"{number}\n" for number in range(20)))
    source = NextSentenceSource(str(path), 1, seed=1)
    plan, problems = NoDuplicates(source, 4), []
    path.write_text("other\n" * 20)
    batches = training_batches(source, 4, 5, 6, plan=plan, problems=problems)
    with pytest.raises(Exception, match="was changed while it was in use"):
        list(batches)
    assert "t.txt was changed while it was in use" in str(problems[0])


def test_a_permutation_holds_each_number_once_and_stays_as_it_is():
    assert sorted(permutation(1000, 42, 0)) == list(range(1000))
    # Another order would be other batches for whoever resumes a run.
    assert permutation(8, 42, 0).tolist() == [4, 1, 3, 6, 0, 7, 2, 5]
    assert permutation(8, 42, 1).tolist() != [4, 1, 3, 6, 0, 7, 2, 5]
