"""Cosine similarity, and its correlation with human scores."""

import warnings

import numpy as np
from numpy.typing import ArrayLike


def cosine_similarity(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of the angle between each row of `a` and the same row of `b`.

    Args:
        a: `(n, dim)`, any real dtype; computed in float64.
        b: `(n, dim)`.

    Returns:
        float64 `(n,)`. A vector of length zero has similarity 0 with every vector.

    Example:

    ```python
    cosine_similarity([[1.0, 0.0]], [[2.0, 0.0]])  # [1.0]
    ```
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dot = np.sum(a * b, axis=-1)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine: np.ndarray = np.divide(dot, norms, out=np.zeros_like(dot), where=norms != 0)
    return cosine


def spearman(
    predicted: ArrayLike, gold: ArrayLike, undefined: float | None = None
) -> float:
    """Spearman's rank correlation, ties with their mean rank.

    The correlation is undefined where a side is constant, as when a model has
    collapsed, or holds NaN or infinity.

    Args:
        predicted: `(n,)`.
        gold: `(n,)`.
        undefined: Optional float. What is returned where it is undefined. Defaults to
            `None`: 0.0, with a `RuntimeWarning`, since such a model ranks nothing.

    Returns:
        A number from -1 to 1.

    Example:

    ```python
    spearman([0.1, 0.5, 0.9], [1, 2, 5])  # 1.0
    ```
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(predicted, np.float64), np.asarray(gold, np.float64)
    return float(spearmanr(x, y).statistic) if _defined(x, y) else or_zero(undefined)


def pearson(
    predicted: ArrayLike, gold: ArrayLike, undefined: float | None = None
) -> float:
    """Pearson's linear correlation.

    Args:
        predicted: `(n,)`.
        gold: `(n,)`.
        undefined: Optional float. As for `spearman`.

    Returns:
        A number from -1 to 1.

    Example:

    ```python
    pearson([0.1, 0.5, 0.9], [1, 2, 3])  # 1.0
    ```
    """
    from scipy.stats import pearsonr

    x, y = np.asarray(predicted, np.float64), np.asarray(gold, np.float64)
    return float(pearsonr(x, y).statistic) if _defined(x, y) else or_zero(undefined)


METRICS = {"spearman": spearman, "pearson": pearson}


def _defined(x: np.ndarray, y: np.ndarray) -> bool:
    return all(v.size > 1 and np.isfinite(v).all() and np.ptp(v) > 0 for v in (x, y))


def or_zero(undefined: float | None) -> float:
    """The score where it is undefined; 0 with a `RuntimeWarning` without one.

    Example:

    ```python
    or_zero(math.nan)  # nan
    ```
    """
    if undefined is not None:
        return undefined
    warnings.warn(
        "constant or non-finite similarities rank nothing: correlation set to 0",
        RuntimeWarning,
        stacklevel=3,
    )
    return 0.0
