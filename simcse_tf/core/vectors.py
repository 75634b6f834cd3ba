"""Vectors as NumPy arrays."""

import io

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from simcse_tf.core.errors import NotFinite


def l2_normalize(rows: ArrayLike, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Scales every row to unit length; a row of zeros stays zero.

    Args:
        rows: `(n, dim)`, any real dtype.
        dtype: What to compute in. Defaults to float32.

    Returns:
        Array `(n, dim)` of that dtype. A row with NaN becomes all NaN.

    Example:

    ```python
    l2_normalize([[3, 4], [0, 0]])  # [[0.6, 0.8], [0.0, 0.0]]
    ```
    """
    rows = np.asarray(rows, dtype)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1, norms)


def check_finite(rows: ArrayLike, what: str, first: int = 1) -> None:
    """Checks that no number is NaN or infinite.

    Args:
        rows: `(n, ...)`, any real dtype.
        what: string. What the rows are, for the message.
        first: int. The number of the first row, for the message. Defaults to `1`.

    Raises:
        NotFinite: If one is, which is a `UserError`; the message names the first such
            row.

    Example:

    ```python
    check_finite([[0.6, 0.8], [np.nan, 1.0]], "embeddings")
    # NotFinite: embeddings, row 2: expected finite numbers, received nan
    ```
    """
    rows = np.asarray(rows)
    finite = np.isfinite(rows)
    if finite.all():
        return
    place = np.unravel_index(np.argmin(finite), rows.shape)
    raise NotFinite(
        f"{what}, row {first + place[0]}: expected finite numbers, received "
        f"{float(rows[place])}"
    )


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What a NumPy file begins with; the rows follow, one after the other.

    Args:
        shape: Of the array.
        dtype: Of the array.

    Example:

    ```python
    file.write(npy_header(rows.shape, rows.dtype) + rows.tobytes())
    ```
    """
    header = io.BytesIO()
    about = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()
