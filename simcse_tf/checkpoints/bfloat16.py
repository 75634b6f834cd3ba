"""bfloat16 in arrays of NumPy, which has no such dtype."""

import numpy as np

# The bits of a bfloat16: the upper half of those of a float32.
BFLOAT16 = "<u2"


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16 numbers as float32, which holds all of them exactly.

    Args:
        bits: uint16 array of any shape: the numbers' bits.

    Returns:
        float32 array of the same shape.

    Example:

    ```python
    widened(np.array([0x3F80], np.uint16))  # [1.0]
    ```
    """
    return np.left_shift(bits.astype(np.uint32), 16).view(np.float32)
