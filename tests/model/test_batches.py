import numpy as np
import pytest

from simcse_tf.model.batches import (
    CPU_LIMITS,
    Batch,
    Limits,
    batches,
    shared_batches,
    whole_batches,
)
from simcse_tf.model.tokens import Tokens

LENGTHS = np.random.default_rng(0).integers(2, 70, 1000)


def test_every_sentence_is_in_one_batch_and_fits():
    limits = Limits(sentences=64, tokens=2048)
    for plan in (batches, whole_batches):
        planned = list(plan(LENGTHS, limits))
        rows = np.concatenate([batch.rows for batch in planned])
        np.testing.assert_array_equal(np.sort(rows), np.arange(1000))
        for batch in planned:
            count, length = batch.shape
            assert LENGTHS[batch.rows].max() <= length
            assert len(batch.rows) <= count <= 64
            assert count * length <= 2048


def cells(batch):
    return batch.shape[0] * batch.shape[1]


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 16, 64, 100, 300, 1000])
def test_shared_batches_hold_every_sentence_once_and_are_never_larger(cores, count):
    lengths = LENGTHS[:count]
    shared = shared_batches(lengths, CPU_LIMITS, cores)
    rows = [row for batch in shared for row in batch.rows]
    assert sorted(rows) == list(range(count))
    assert all(
        batch.shape == (len(batch.rows), max(lengths[batch.rows])) for batch in shared
    )
    largest = max(map(cells, batches(lengths, CPU_LIMITS)), default=0)
    assert max(map(cells, shared), default=0) <= largest


@pytest.mark.parametrize("cores", [2, 4, 8])
def test_a_few_sentences_keep_all_cores_as_busy(cores):
    shared = shared_batches(LENGTHS[:64], CPU_LIMITS, cores)
    assert len(shared) == cores
    assert max(map(cells, shared)) < 1.3 * sum(map(cells, shared)) / cores


def test_batches_are_not_divided_where_that_gains_nothing():
    few_tokens = np.array([9, 12, 15])
    assert len(shared_batches(few_tokens, CPU_LIMITS, cores=8)) == 1
    for lengths, cores in ((np.tile(LENGTHS, 4), 2), (LENGTHS[:100], 1)):
        shared = shared_batches(lengths, CPU_LIMITS, cores)
        whole = list(batches(lengths, CPU_LIMITS))
        if cores > 1:
            assert [b.rows.tolist() for b in shared] == [b.rows.tolist() for b in whole]
        assert len(shared) == len(whole)


def test_whole_batches_have_one_shape_a_length():
    planned = list(whole_batches(LENGTHS, Limits(64, 2048)))
    whole = {batch.shape for batch in planned if batch.is_whole}
    assert whole <= {
        (64, 8),
        (64, 16),
        (64, 24),
        (64, 32),
        (42, 48),
        (32, 64),
        (21, 96),
    }
    assert sum(not batch.is_whole for batch in planned) <= 1


def test_a_batch_that_would_be_mostly_padding_keeps_its_own_shape():
    [batch] = whole_batches(np.array([7, 9, 5]), Limits(64, 2048))
    assert (batch.shape, batch.is_whole) == ((3, 9), False)


def test_rows_are_filled_up_with_padding():
    tokens = Tokens(np.arange(10, 20, dtype=np.int32), np.array([3, 5, 2]), padding=0)
    ids, lengths = tokens.padded(Batch(np.array([1, 2]), shape=(3, 6)))
    assert ids.tolist() == [
        [13, 14, 15, 16, 17, 0],
        [18, 19, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert lengths.tolist() == [5, 2, 1]
