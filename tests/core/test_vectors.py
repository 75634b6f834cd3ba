import numpy as np
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import check_finite, l2_normalize


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_finite_rows_pass(dtype):
    check_finite(np.array([[0, 1], [100, -5]], dtype), "embeddings")
    check_finite(np.empty((0, 4), dtype), "embeddings")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_named(value):
    rows = np.zeros((5, 3), np.float32)
    rows[[2, 4], 1] = value
    message = f"^out, row 3: expected finite numbers, received {value}$"
    with pytest.raises(UserError, match=message):
        check_finite(rows, "out")
    with pytest.raises(UserError, match="out, row 403: "):
        check_finite(rows, "out", first=401)
