"""Searching an index: the rows nearest to each query, however they are found.

Candidates come from faiss, and rows that it does not cover are all compared; then the
stored vectors decide. So a hit's cosine and the order of hits are those of exact
search; what faiss may do is miss one.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.errors import UserError
from simcse_tf.core.regular_files import shown_path
from simcse_tf.indexing.candidates import Candidates
from simcse_tf.indexing.filters import matching, parse
from simcse_tf.indexing.index import Hit, Index
from simcse_tf.indexing.repeats import Repeats
from simcse_tf.search.exact import Nearest

# Comparing so few rows takes no longer than asking faiss, and misses none; and so does
# faiss where it has to pass over most of what it sees.
_FEW_ROWS = 5_000
_FEW = 0.1
# Nor where so large a share of the rows is asked for.
_MANY_HITS = 20
# Queries whose candidates are compared at a time.
_AT_ONCE = 256


class Searcher:
    """Finds rows of an open index.

    Args:
        index: The index.

    Example:

    ```python
    Searcher(index).search(queries, 10, where='lang = "de"')
    ```
    """

    def __init__(self, index: Index):
        self._index = index

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        threshold: float | None = None,
        where: str | None = None,
        exact: bool = False,
        effort: int | None = None,
    ) -> list[list[Hit]]:
        """The rows nearest to each query.

        Rows with the same text count once: the first of them that is not removed and
        fulfils the conditions.

        Args:
            queries: `(q, dim)`, any length of the vectors.
            k: int. Rows for each query; fewer where there are fewer. At least 1.
            threshold: Optional float. The least cosine of a hit.
            where: Optional string. What a hit's metadata must fulfil; see
                `simcse_tf.indexing.filters`.
            exact: bool. Whether all rows are compared, whatever faiss proposes.
                Defaults to `False`.
            effort: Optional int. How hard faiss tries, as for
                `simcse_tf.indexing.candidates.Candidates.nearest`.

        Returns:
            For each query a list of `Hit`, the nearest first. Of rows whose cosines
            agree to six decimals the one that was added first goes first.

        Raises:
            UserError: A query is of another dimension or not finite, or an argument is
                not as expected.
        """
        check_options(self._index, k, threshold=threshold, effort=effort)
        queries = self._checked(queries)
        allowed = self._allowed(where)
        k = min(k, int(np.count_nonzero(allowed)))
        if not len(queries) or not k:
            return [[] for _ in queries]
        if exact or not self._faiss_helps(allowed, k):
            found = self._exact(queries, k, allowed)
        else:
            found = self._approximate(queries, k, allowed, effort)
        return self._hits(found, -np.inf if threshold is None else threshold)

    def _checked(self, queries: ArrayLike) -> np.ndarray:
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self._index.dimension:
            raise UserError(
                f"{shown_path(self._index.directory)}: expected queries of "
                f"{self._index.dimension} dimensions, received an array of shape "
                f"{queries.shape}"
            )
        return queries

    def _faiss_helps(self, allowed: np.ndarray, k: int) -> bool:
        candidates = self._index.manifest.candidates
        if candidates.file is None:
            return False
        few = max(_FEW_ROWS, _FEW * candidates.rows, _MANY_HITS * k)
        return int(np.count_nonzero(allowed)) > few

    def _exact(self, queries: np.ndarray, k: int, allowed: np.ndarray) -> Nearest:
        nearest = Nearest(queries, k)
        self._compare(nearest, allowed, 0)
        return nearest

    def _approximate(
        self, queries: np.ndarray, k: int, allowed: np.ndarray, effort: int | None
    ) -> Nearest:
        nearest = Nearest(queries, k)
        covered = self._candidates.rows
        selected = None if allowed[:covered].all() else allowed[:covered]
        enough = min(k, int(np.count_nonzero(allowed[:covered])))
        short = np.zeros(len(queries), bool)
        for start in range(0, len(queries), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            proposed = self._candidates.nearest(
                nearest.queries[part], k, allowed=selected, effort=effort
            )
            short[part] = np.count_nonzero(proposed >= 0, axis=1) < enough
            which, places = np.nonzero(proposed >= 0)
            rows = proposed[which, places]
            nearest.add_pairs(which + start, self._index.vectors(rows), rows)
        self._compare(nearest, allowed, covered)
        if short.any():
            # Of what faiss has seen, conditions have left too few.
            whole = self._exact(queries[short], k, allowed)
            nearest.rows[short], nearest.cosines[short] = whole.rows, whole.cosines
        return nearest

    def _compare(self, nearest: Nearest, allowed: np.ndarray, start: int) -> None:
        """Compares all allowed rows from one on."""
        if not allowed[start:].any():
            return
        for first, block in self._index.blocks(start=start):
            chosen = np.flatnonzero(allowed[first : first + len(block)])
            whole = len(chosen) == len(block)
            block = block if whole else block[chosen]
            nearest.add(block, first + chosen, unit=True)

    def _hits(self, found: Nearest, threshold: float) -> list[list[Hit]]:
        which, places = np.nonzero((found.rows >= 0) & (found.cosines >= threshold))
        rows = found.rows[which, places]
        cosines = found.cosines[which, places].tolist()
        distinct, back = np.unique(rows, return_inverse=True)
        ids, texts = self._index.ids(distinct), self._index.texts(distinct)
        metadata = self._index.metadata(distinct)
        hits: list[list[Hit]] = [[] for _ in found.rows]
        for query, place, cosine in zip(which.tolist(), back, cosines, strict=True):
            about = (ids[place], texts[place], cosine, dict(metadata[place]))
            hits[query].append(Hit(int(distinct[place]), *about))
        return hits

    def _allowed(self, where: str | None) -> np.ndarray:
        """The rows that count, bool `(rows,)`: of the same text only the first."""
        if where is None:
            return self._counted
        fulfilled = self._index.live & matching(self._index, where)
        return self._repeats.first_of_each(fulfilled)

    @cached_property
    def _repeats(self) -> Repeats:
        return Repeats(self._index)

    @cached_property
    def _counted(self) -> np.ndarray:
        return self._repeats.first_of_each(self._index.live)

    @cached_property
    def _candidates(self) -> Candidates:
        candidates = self._index.manifest.candidates
        assert candidates.file is not None
        path = self._index.directory / candidates.file.path
        found = Candidates(path, candidates.kind, candidates.parameters)
        if (found.rows, found.dimension) != (candidates.rows, self._index.dimension):
            raise UserError(
                f"{shown_path(path)} is damaged: expected {candidates.rows} rows of "
                f"{self._index.dimension} dimensions, received {found.rows} of "
                f"{found.dimension}"
            )
        return found


def check_options(
    index: Index,
    k: int,
    *,
    threshold: float | None = None,
    where: str | None = None,
    effort: int | None = None,
) -> None:
    """Checks what a search is asked for; before there are queries.

    Args:
        index: The index.
        k: int. As for `Searcher.search`, and so are the others.
        threshold: Optional float.
        where: Optional string.
        effort: Optional int.

    Raises:
        UserError: If one is not as expected.

    Example:

    ```python
    check_options(index, 0)  # UserError: k: expected 1 or more, received 0
    ```
    """
    if k < 1:
        raise UserError(f"k: expected 1 or more, received {k}")
    if effort is not None and effort < 1:
        raise UserError(f"effort: expected 1 or more, received {effort}")
    if threshold is not None and math.isnan(threshold):
        raise UserError("threshold: expected a cosine, received nan")
    if where is not None:
        parse(where, index.manifest.columns)
