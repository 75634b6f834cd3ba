"""Vectors as NumPy arrays."""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


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
