import numpy as np
import pytest

from simcse_tf.core.vectors import l2_normalize


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_get_unit_length_in_the_dtype_asked_for(dtype):
    rows = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32) * 30
    found = l2_normalize(rows, dtype)
    assert found.dtype == dtype
    norms = np.linalg.norm(rows.astype(dtype), axis=1, keepdims=True)
    np.testing.assert_array_equal(found, rows.astype(dtype) / norms)


def test_a_row_of_zeros_stays_zero():
    assert l2_normalize([[0, 0], [3, 4]]).tolist() == [
        [0, 0],
        [np.float32(0.6), np.float32(0.8)],
    ]
