"""Near duplicates: rows whose cosine is at least a threshold."""

import numpy as np

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.search.exact import DECIMALS

# Cosines computed at a time.
_AT_ONCE = 2**22
_BLOCK = 1024
# What a float32 product may be off by.
_SLACK = 1e-5


def nearest_cells(vectors: np.ndarray, pivots: np.ndarray, cells: int) -> np.ndarray:
    """The cells that vectors are in: the pivots that they are nearest to.

    Args:
        vectors: float32 `(n, dim)`, of unit length.
        pivots: float32 `(p, dim)`, the same.
        cells: int. How many of each vector are wanted.

    Returns:
        int64 `(n, min(cells, p))`, the nearest first.

    Example:

    ```python
    nearest_cells(vectors, vectors[::100], cells=3)
    ```
    """
    cells = min(cells, len(pivots))
    found = np.empty((len(vectors), cells), np.int64)
    rows = max(1, _AT_ONCE // len(pivots))
    for start in range(0, len(vectors), rows):
        cosines = vectors[start : start + rows] @ pivots.T
        near = np.argpartition(-cosines, cells - 1, axis=1)[:, :cells]
        order = np.argsort(-np.take_along_axis(cosines, near, 1), axis=1, kind="stable")
        found[start : start + rows] = np.take_along_axis(near, order, 1)
    return found


def near_pairs(vectors: np.ndarray, at_home: int, threshold: float) -> np.ndarray:
    """Pairs of vectors that may have a cosine of at least `threshold`, and all that do.

    Args:
        vectors: float32 `(n, dim)`, of unit length.
        at_home: int. The first so many are compared with all. The others are not
            compared with each other.
        threshold: float.

    Returns:
        int64 `(m, 2)`: pairs of places in `vectors`, each once.

    Example:

    ```python
    near_pairs(vectors, len(vectors), 0.95)
    ```
    """
    pairs = []
    for start in range(0, at_home, _BLOCK):
        block = vectors[start : min(start + _BLOCK, at_home)]
        for other in range(start, len(vectors), _BLOCK):
            cosines = block @ vectors[other : other + _BLOCK].T
            one, two = np.nonzero(cosines >= threshold - _SLACK)
            one, two = one + start, two + other
            pairs.append(np.stack([one, two], axis=1)[one < two])
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def representatives(
    vectors: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Goes through rows in their order, and keeps those that are near no kept one.

    So each row that goes is near one that stays, however rows hang together.

    Args:
        vectors: `(n, dim)`, any length of the vectors.
        threshold: float. Cosines of at least this much, to six decimals, are near.

    Returns:
        For each row the nearest of the kept ones before it, int64 `(n,)`, the first of
        several; a row that stays has its own place there. And the cosines with them,
        float64 `(n,)`.

    Example:

    ```python
    representatives(np.array([[1, 0], [1, 0.1], [0, 1]]), 0.9)[0]  # [0, 0, 2]
    ```
    """
    unit = l2_normalize(vectors, np.float64)
    chosen, cosines = np.arange(len(unit)), np.ones(len(unit))
    kept: list[int] = []
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        # Columns: what was kept before, then the block's own rows.
        places = np.array([*kept, *range(start, start + len(block))])
        near = np.round(block @ unit[places].T, DECIMALS)
        stays = places < start
        for row, found in enumerate(near):
            best = int(np.argmax(np.where(stays, found, -2)))
            if stays[best] and found[best] >= threshold:
                chosen[start + row], cosines[start + row] = places[best], found[best]
            else:
                stays[len(kept) + row] = True
        kept = places[stays].tolist()
    return chosen, cosines
