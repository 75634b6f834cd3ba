import numpy as np

from simcse_tf.encoding.batches import Batch, Limits, batches, whole_batches
from simcse_tf.encoding.tokens import Tokens

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
