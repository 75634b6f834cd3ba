"""Random orders that stay the same in all versions of NumPy."""

import numpy as np


def permutation(size: int, *seed: int) -> np.ndarray:
    """The numbers below `size` in a random order.

    It rests on the bits of PCG64 alone, which NumPy promises to keep; what its
    `Generator` makes of them may change.

    Args:
        size: int.
        *seed: ints of at least 0.

    Returns:
        int64, `(size,)`.

    Example:

    ```python
    permutation(4, 42, 0)  # [2, 0, 3, 1]
    ```
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(size)
    return np.argsort(bits, kind="stable")
