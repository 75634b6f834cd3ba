"""Exact search: the rows of a matrix nearest to a vector."""

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.vectors import check_finite, l2_normalize

# Cosines computed at a time, 64 MiB of them.
_AT_ONCE = 2**23
# What float32 embeddings can tell apart. A difference in the last bits, such as
# matrix products make, then decides no rank.
DECIMALS = 6


def top_k(
    queries: ArrayLike, corpus: ArrayLike, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` rows of `corpus` with the largest cosine similarity, by exact search.

    Computed in float64, part of the corpus at a time. Cosines that agree to six
    decimals are a tie, and the row that comes first in the corpus goes first. (A
    library's brute-force search leaves the order of ties to chance.)

    Args:
        queries: `(q, dim)`, any real dtype and any length of the vectors; a vector
            of length zero has similarity 0 with every vector.
        corpus: `(n, dim)`.
        k: int. At least 1.

    Returns:
        Row numbers in the corpus, int64 `(q, min(k, n))`, the nearest first, and
        their cosines to six decimals, float64 of the same shape.

    Raises:
        ValueError: The arrays are not two matrices of one width, `k` is below 1, or a
            number is not finite (`NotFinite`).

    Example:

    ```python
    indices, cosines = top_k([[1, 0]], [[0, 1], [2, 0]], k=1)
    indices, cosines  # [[1]], [[1.0]]
    ```
    """
    queries, corpus = np.asarray(queries), np.asarray(corpus)
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            "`queries` and `corpus` must be of shapes (q, dim) and (n, dim). "
            f"Received: {queries.shape} and {corpus.shape}"
        )
    if k < 1:
        raise ValueError(f"`k` must be 1 or more. Received: {k}")
    check_finite(queries, "queries")
    check_finite(corpus, "corpus")
    queries = l2_normalize(queries, np.float64)
    indices = np.empty((len(queries), 0), np.int64)
    cosines = np.empty((len(queries), 0))
    rows = max(1, _AT_ONCE // max(1, len(queries)))
    for start in range(0, len(corpus), rows):
        part = l2_normalize(corpus[start : start + rows], np.float64)
        found = np.round(queries @ part.T, DECIMALS)
        numbers = np.arange(start, start + len(part))
        cosines = np.concatenate([cosines, found], axis=1)
        indices = np.concatenate(
            [indices, np.broadcast_to(numbers, found.shape)], axis=1
        )
        # Stable, and earlier parts stand to the left: a tie keeps the corpus' order.
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        cosines = np.take_along_axis(cosines, best, axis=1)
        indices = np.take_along_axis(indices, best, axis=1)
    return indices, cosines
