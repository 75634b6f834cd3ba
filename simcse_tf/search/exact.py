"""Exact search: the rows of a matrix nearest to a vector.

Products in float32 say which rows can be among the nearest, with room for all that
float32 may be wrong by; only those rows' cosines are computed in float64.
"""

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.vectors import check_finite, l2_normalize

# Numbers computed at a time: 32 MiB of float32.
_AT_ONCE = 2**23
_QUERIES_AT_ONCE = 1024
# As much as a processor's cache holds.
_PAIRS_AT_ONCE = 2**17
# The first rows come a few at a time, so that soon few others can be better.
_FIRST_ROWS = 1024
# What float32 embeddings can tell apart. A difference in the last bits, such as
# matrix products make, then decides no rank.
DECIMALS = 6
# Half of float32's last place, and what rounding to `DECIMALS` moves, twice.
_UNIT = 2.0**-24
_ROUNDED = 2 * 10.0**-DECIMALS
# Squared lengths that float32 holds without loss, and those that count as 1.
_SMALLEST, _LARGEST = 1e-20, 1e20
_NEAR_ONE = 1e-6
# From this share of all pairs on, one product in float64 is cheaper than pairs.
_MANY = 1 / 16


def top_k(
    queries: ArrayLike, corpus: ArrayLike, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` rows of `corpus` with the largest cosine similarity, by exact search.

    Cosines are those of float64, and part of the corpus is read at a time. Cosines that
    agree to six decimals are a tie, and the row that comes first in the corpus goes
    first. (A library's brute-force search leaves the order of ties to chance.)

    Args:
        queries: `(q, dim)`, any real dtype and any length of the vectors; a vector
            of length zero has similarity 0 with every vector.
        corpus: `(n, dim)`. It may be mapped from a file.
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
    nearest = Nearest(queries, min(k, len(corpus)))
    nearest.add(corpus, np.arange(len(corpus)))
    return nearest.rows, nearest.cosines


class Nearest:
    """The rows nearest to each query, while a corpus passes by in blocks.

    Args:
        queries: `(q, dim)`, as for `top_k`.
        k: int. How many rows to keep for each query.

    Attributes:
        queries: float64 `(q, dim)`, of unit length.
        rows: int64 `(q, k)`, the nearest first; -1 where there were fewer.
        cosines: float64 `(q, k)`, to six decimals; negative infinity there.

    Raises:
        NotFinite: A query has a number that is not finite.

    Example:

    ```python
    nearest = Nearest([[1.0, 0.0]], k=1)
    nearest.add(np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([0, 1]))
    nearest.rows  # [[1]]
    ```
    """

    def __init__(self, queries: ArrayLike, k: int):
        queries = np.asarray(queries)
        check_finite(queries, "queries")
        self.queries = l2_normalize(queries, np.float64)
        self._narrow = self.queries.astype(np.float32)
        self._k, self._seen = k, 0
        self.rows = np.full((len(queries), k), -1, np.int64)
        self.cosines = np.full((len(queries), k), -np.inf)
        # A product of `dim` terms, whatever their order, and the lengths' own errors.
        self._error = 2 * (queries.shape[1] + 32) * _UNIT + _NEAR_ONE + _ROUNDED

    def add(self, vectors: np.ndarray, rows: np.ndarray, unit: bool = False) -> None:
        """Compares more rows with the queries.

        Args:
            vectors: `(m, dim)`, any real dtype and any length of the vectors.
            rows: int64 `(m,)`. Their numbers, ascending, above all before.
            unit: bool. Whether the vectors are known to be float32 and finite, of unit
                length or zero: then none is looked at to find out. Defaults to `False`.

        Raises:
            NotFinite: A number is not finite.
        """
        if not self.rows.size:
            check_finite(vectors, "corpus")
            return
        width = max(1, vectors.shape[1], min(len(self.queries), _QUERIES_AT_ONCE))
        most = max(1, _AT_ONCE // width)
        few = max(_FIRST_ROWS, 2 * self._k)
        start = 0
        while start < len(vectors):
            part = slice(start, start + min(most, max(few, self._seen)))
            self._add(vectors[part], rows[part], unit)
            self._seen += len(rows[part])
            start = part.stop

    def add_pairs(
        self, which: np.ndarray, vectors: np.ndarray, rows: np.ndarray
    ) -> None:
        """Compares each of some rows with one query, such as those that others propose.

        Args:
            which: int64 `(m,)`. The numbers of the queries.
            vectors: float32 `(m, dim)`, finite, of unit length or zero.
            rows: int64 `(m,)`. In any order, no pair twice, below all that `add` gets
                later.
        """
        scores = np.einsum("ij,ij->i", self._narrow[which], vectors)
        # Each query's in a row, the best first: behind the k-th, most cannot be better.
        order = np.lexsort((-scores, which))
        firsts = np.searchsorted(which[order], np.arange(len(self.queries) + 1))
        least = self.cosines[:, -1].copy()
        enough = np.flatnonzero(np.diff(firsts) >= self._k)
        last = scores[order[firsts[enough] + self._k - 1]]
        least[enough] = np.maximum(least[enough], last - self._error)
        possible = np.flatnonzero(scores >= least[which] - self._error)
        which, rows = which[possible], rows[possible]
        cosines = _cosines(self.queries, vectors, which, possible)
        self._keep(which, rows, cosines)

    def _add(self, vectors: np.ndarray, rows: np.ndarray, unit: bool) -> None:
        narrow = vectors if unit else _unit_rows(vectors, int(rows[0]))
        for start in range(0, len(self.queries), _QUERIES_AT_ONCE):
            queries = slice(start, start + _QUERIES_AT_ONCE)
            which, places = self._possible(queries, narrow)
            cosines = _cosines(self.queries[queries], vectors, which, places)
            # Not as near as those before, or as near and behind them.
            better = cosines > self.cosines[queries][which, -1]
            which, places = which[better] + start, places[better]
            self._keep(which, rows[places], cosines[better])

    def _possible(
        self, queries: slice, narrow: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a query and a row that may be among its nearest."""
        scores = self._narrow[queries] @ narrow.T
        least = self.cosines[queries, -1]
        if len(narrow) >= self._k and np.isneginf(least).any():
            last = len(narrow) - self._k
            found = np.partition(scores, last, axis=1)[:, last]
            least = np.maximum(least, found - self._error)
        bounds = (least - self._error).astype(np.float32)
        pairs = np.flatnonzero(scores >= bounds[:, None])
        which, places = np.divmod(pairs, len(narrow))
        return which, places

    def _keep(self, which: np.ndarray, rows: np.ndarray, cosines: np.ndarray) -> None:
        changed = np.unique(which)
        which = np.concatenate([np.repeat(changed, self._k), which])
        rows = np.concatenate([self.rows[changed].ravel(), rows])
        cosines = np.concatenate([self.cosines[changed].ravel(), cosines])
        order = np.lexsort((rows, -cosines, which))
        firsts = np.searchsorted(which[order], changed)
        best = order[firsts[:, None] + np.arange(self._k)]
        self.rows[changed] = rows[best]
        self.cosines[changed] = cosines[best]


def _unit_rows(vectors: np.ndarray, first: int) -> np.ndarray:
    """Rows of unit length in float32; the array itself where it is that already."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.asarray(vectors, np.float32)
        # The fastest way that NumPy has.
        squares = np.matmul(narrow[:, None, :], narrow[:, :, None])[:, 0, 0]
    if (np.abs(squares - 1) < _NEAR_ONE).all():
        return narrow
    odd = np.flatnonzero(~((squares > _SMALLEST) & (squares < _LARGEST)))
    if odd.size:
        check_finite(vectors, "corpus", first + 1)
        narrow = narrow.copy()
        narrow[odd] = l2_normalize(vectors[odd], np.float64)
        squares[odd] = 1
    scaled: np.ndarray = narrow / np.sqrt(squares)[:, None]
    return scaled


def _cosines(
    queries: np.ndarray, vectors: np.ndarray, which: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """The cosines of pairs of a query and a row, to `DECIMALS`, in float64."""
    if len(which) > _MANY * len(queries) * len(vectors):
        every = queries @ l2_normalize(vectors, np.float64).T
        return np.round(every[which, places], DECIMALS)
    cosines = np.empty(len(which))
    at_once = max(1, _PAIRS_AT_ONCE // max(1, vectors.shape[1]))
    for start in range(0, len(which), at_once):
        pairs = slice(start, start + at_once)
        rows = np.asarray(vectors[places[pairs]], np.float64)
        with np.errstate(over="ignore"):
            squares = np.einsum("ij,ij->i", rows, rows)
        odd = np.flatnonzero(~((squares > _SMALLEST) & (squares < _LARGEST)))
        if odd.size:
            rows[odd], squares[odd] = l2_normalize(rows[odd], np.float64), 1
        products = np.einsum("ij,ij->i", queries[which[pairs]], rows)
        cosines[pairs] = products / np.sqrt(squares)
    return np.round(cosines, DECIMALS)
