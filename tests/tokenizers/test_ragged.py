"""Our operations on ragged tensors give what TensorFlow's longer ones give."""

from itertools import chain

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.tokenizers import ragged
from simcse_tf.tokenizers.batch import enclose

ROWS = st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=5)


def of(rows, dtype=tf.int32):
    return tf.ragged.constant(rows, dtype, ragged_rank=1, row_splits_dtype=tf.int64)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, count=st.integers(0, 5))
def test_one_tensor(rows, count):
    made = of(rows)
    is_even = made.values % 2 == 0
    assert ragged.rows_of(made).numpy().tolist() == made.value_rowids().numpy().tolist()
    assert ragged.kept(made, is_even).to_list() == [
        [value for value in row if value % 2 == 0] for row in rows
    ]
    assert (
        ragged.chosen(made.values, is_even).shape
        == tf.boolean_mask(made.values, is_even).shape
    )
    assert ragged.first_of(made, count).to_list() == [row[:count] for row in rows]
    assert ragged.sums(made).numpy().tolist() == [*map(sum, rows)]
    firsts = [place == 0 for row in rows for place in range(len(row))]
    assert ragged.first_of_rows(made).numpy().tolist() == firsts
    assert enclose(made, 77, 88).to_list() == [[77, *row, 88] for row in rows]


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(*[st.lists(st.integers(0, 9), max_size=3)] * 2)))
def test_two_tensors_side_by_side(pairs):
    left, right = (of([pair[side] for pair in pairs]) for side in range(2))
    both = ragged.side_by_side(left, right)
    assert both.to_list() == [one + other for one, other in pairs]


@pytest.mark.parametrize("rows", [[], [[]], [[0], [], [1, 2]]])
def test_values_are_replaced_by_the_parts_with_their_numbers(rows):
    parts = [["a"], [], ["b", "c"]][: sum(map(len, rows))]
    found = ragged.merged(of(rows), of(parts, tf.string)).to_list()
    text = [[part.encode() for part in each] for each in parts]
    assert found == [[*chain(*(text[value] for value in row))] for row in rows]
