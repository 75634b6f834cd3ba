"""Exact search in the graph, of operations that every TensorFlow on a CPU has."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from simcse_tf.search.exact import DECIMALS

# Components of the vectors that are in float32 at a time: as many as a core's cache
# holds. With more, decoding int8 costs twice as much.
_COMPONENTS = 3 * 2**20
# Scores at a time, 16 MiB of float32.
_SCORES = 2**22
# So many more rows than are wanted are scored again in float64.
_SPARE = 64


class ExactSearch(tf.Module):
    """The rows of a matrix nearest to vectors, as `simcse_tf.search.exact.top_k`.

    Float32 scores of all rows choose candidates, whose cosines are computed in float64.
    Where the first do not tell for certain which rows are nearest, because more rows
    are equally near than candidates, all rows are scored in float64.

    A block of rows is decoded at a time, so memory does not grow with their number. The
    rows are a variable, because a constant would be a part of the graph, which has at
    most 2 GB. They stay on the CPU: GPUs multiply in TF32, which errs by 1e-3.

    Args:
        vectors: float32, bfloat16 or int8 `(rows, dim)`, not empty. Only directions
            count.

    Example:

    ```python
    search = ExactSearch(np.eye(3, dtype=np.float32))
    cosines, rows = search(tf.constant([[0.6, 0.8, 0.0]]), k=2)
    rows  # [[1, 0]]
    ```
    """

    def __init__(self, vectors: np.ndarray):
        super().__init__()
        self._rows, self._dim = vectors.shape
        # How much a sum of products of float32 errs at most, in any order (Higham 2002,
        # equation 3.7), its terms' roundings, and that of a cosine.
        self._margin = (self._dim + 8) * 2.0**-24 + 10.0**-DECIMALS
        with tf.device("CPU:0"):
            self._vectors = tf.Variable(vectors, trainable=False)
            self._scales = tf.Variable(_scales(vectors), trainable=False)

    def __call__(
        self, queries: tf.Tensor, k: tf.Tensor | int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the rows with the largest cosines.

        Args:
            queries: float32 `(n, dim)`.
            k: int32 scalar, at least 1.

        Returns:
            Cosines to six decimals, float64 `(n, min(k, rows))`, the largest first, and
            the numbers of their rows, int32. A tie is the row's that comes first.
        """
        with tf.device("CPU:0"):
            return self._search(queries, tf.minimum(k, self._rows))

    def _search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        queries = tf.cast(queries, tf.float64)
        lengths = tf.norm(queries, axis=1, keepdims=True)
        queries = tf.math.divide_no_nan(queries, lengths)
        count = tf.minimum(k + _SPARE, self._rows)
        scores, candidates = self._scan(tf.cast(queries, tf.float32), count)
        # In the rows' order, so that a tie keeps it.
        candidates = tf.sort(candidates, axis=1)
        cosines, places = tf.math.top_k(self._cosines(queries, candidates), k)
        rows = tf.gather(candidates, places, batch_dims=1)

        # No other row has a larger score than the last candidate.
        beyond = tf.cast(scores[:, -1], tf.float64) + self._margin
        is_sure = (beyond < cosines[:, -1]) | (count == self._rows)
        unsure = tf.where(~is_sure)
        exact, exact_rows = self._scan(tf.gather(queries, unsure[:, 0]), k)
        return (
            tf.tensor_scatter_nd_update(cosines, unsure, exact),
            tf.tensor_scatter_nd_update(rows, unsure, exact_rows),
        )

    def _scan(
        self, queries: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The `count` best scores, in the precision of the queries, and their rows.

        In float64 they are cosines to six decimals, and a tie is the first row's.
        """
        dtype, n = queries.dtype, tf.shape(queries)[0]
        # Read once: within the loop a read may be a copy.
        vectors, scales = self._vectors.read_value(), self._scales.read_value()
        columns = tf.transpose(queries)
        size = tf.clip_by_value(
            _SCORES // tf.maximum(n, 1), 1, max(1, _COMPONENTS // self._dim)
        )

        def with_block(
            start: tf.Tensor, best: tf.Tensor, rows: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            block = tf.cast(vectors[start : start + size], dtype)
            lengths = tf.cast(scales[start : start + size], dtype)
            # On a CPU without oneDNN this order takes half the time of the other.
            scores = tf.transpose(tf.matmul(block, columns) * lengths[:, tf.newaxis])
            if dtype == tf.float64:
                scores = _rounded(scores)
            found, places = tf.math.top_k(
                scores, tf.minimum(count, tf.shape(scores)[1])
            )
            # Earlier rows stand to the left, where a tie is decided.
            best = tf.concat([best, found], axis=1)
            rows = tf.concat([rows, places + start], axis=1)
            best, kept = tf.math.top_k(best, tf.minimum(count, tf.shape(best)[1]))
            return start + size, best, tf.gather(rows, kept, batch_dims=1)

        none = tf.zeros([n, 0], dtype), tf.zeros([n, 0], tf.int32)
        # Without a query nothing is read: nearly always the second time.
        stop = tf.where(n > 0, self._rows, 0)
        _, best, rows = tf.while_loop(
            lambda start, *_: start < stop,
            with_block,
            (0, *none),
            shape_invariants=(tf.TensorShape([]), *2 * (tf.TensorShape([None, None]),)),
            parallel_iterations=1,
        )
        # Where no loop ran, they have no columns yet.
        return tf.reshape(best, [n, count]), tf.reshape(rows, [n, count])

    def _cosines(self, queries: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Cosines of each query with rows of its own, `(n, count)`, some at a time."""
        # Gathered from a variable itself, every later read of it would be a copy.
        vectors, scales = self._vectors.read_value(), self._scales.read_value()
        n, count = tf.unstack(tf.shape(rows))
        size = tf.maximum(1, _COMPONENTS // (count * self._dim))

        def with_some(start: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            some = rows[start : start + size]
            products = tf.linalg.matvec(
                tf.cast(tf.gather(vectors, some), tf.float64),
                queries[start : start + size],
            )
            cosines = _rounded(products * tf.gather(scales, some))
            return start + size, tf.concat([done, cosines], axis=0)

        _, cosines = tf.while_loop(
            lambda start, _: start < n,
            with_some,
            (0, tf.zeros([0, count], tf.float64)),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
            parallel_iterations=1,
        )
        return cosines


def _scales(vectors: np.ndarray) -> np.ndarray:
    """What makes each row's length 1, float64 `(rows,)`; 0 for a row of zeros."""
    scales = np.zeros(len(vectors))
    step = max(1, _COMPONENTS // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1)
        np.divide(1, lengths, out=scales[start : start + step], where=lengths > 0)
    return scales


def _rounded(cosines: tf.Tensor) -> tf.Tensor:
    return tf.round(cosines * 10**DECIMALS) / 10**DECIMALS
