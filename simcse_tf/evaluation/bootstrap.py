"""The bootstrap: examples drawn again with replacement, many times, each draw scored.

Where a score has several parts (see `sts.parts`), each is drawn from separately. All
models are scored on the same draws.

Reference:
    - Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 6.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.evaluation.sts import METRICS, Part

RESAMPLES = 1000

# The score of each model on its examples, and then on each draw of them:
# `(models, 1 + resamples)`, times 100.
Draws: TypeAlias = np.ndarray
_Side: TypeAlias = Callable[[np.ndarray], np.ndarray]


def correlation_draws(
    similarities: Sequence[ArrayLike],
    gold: ArrayLike,
    metric: str = "spearman",
    parts: Sequence[Part] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """The correlations of several models with human scores, on the same draws.

    Args:
        similarities: `(n,)` of each model.
        gold: `(n,)`.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        parts: As in `confidence_interval`.
        resamples: int. How often pairs are drawn. Defaults to `1000`.
        seed: int. Defaults to `0`.

    Example:

    ```python
    correlation_draws([similarity], pairs.scores)[0, 0]  # 82.03
    ```
    """
    if metric not in METRICS:
        raise ValueError(
            f"metric: expected one of {list(METRICS)}, received {metric!r}"
        )
    generator = np.random.default_rng(seed)
    values = [np.asarray(v, np.float64) for v in (gold, *similarities)]
    scores = np.zeros((len(similarities), 1 + resamples))
    for part, weight in parts or [(slice(None), 1.0)]:
        sides = [_side(v[part], metric) for v in values]
        drawn = _counts(len(values[0][part]), generator, resamples)
        for draw, counts in enumerate(drawn):
            people, *models = (side(counts) for side in sides)
            correlations = [_correlation(model, people, counts) for model in models]
            scores[:, draw] += weight * np.array(correlations)
    return 100.0 * scores


def mean_draws(
    samples: Sequence[ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0
) -> Draws:
    """The means of several models' examples, on the same draws.

    Args:
        samples: `(n,)` of each model, what each example gave it: 1 or 0, or a metric.
            NaN counts as 0.
        resamples: int. How often examples are drawn. Defaults to `1000`.
        seed: int. Defaults to `0`.

    Example:

    ```python
    mean_draws([[1, 0, 1, 1]])[0, 0]  # 75.0
    ```
    """
    values = np.nan_to_num(np.array(samples, np.float64))
    size = values.shape[1]
    counts = _counts(size, np.random.default_rng(seed), resamples)
    return 100.0 * np.stack([values @ drawn / size for drawn in counts], axis=1)


def _counts(
    size: int, generator: np.random.Generator, resamples: int
) -> Iterator[np.ndarray]:
    """How often each example is in a draw; the first one is the examples."""
    yield np.ones(size, np.int64)
    for _ in range(resamples):
        yield np.bincount(generator.integers(size, size=size), minlength=size)


def _side(values: np.ndarray, metric: str) -> _Side:
    """One side of a correlation as a function of how often each pair was drawn."""
    if not np.isfinite(values).all():
        # Ranks nothing, as a constant does.
        values = np.zeros_like(values)
    if metric == "pearson":
        return lambda counts: values
    _, places = np.unique(values, return_inverse=True)
    return lambda counts: _ranks(places, counts)


def _ranks(places: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks within a draw, ties with their mean rank, without sorting it.

    Args:
        places: int `(n,)`: place of each pair's value among the distinct values.
        counts: int `(n,)`: how often each pair was drawn.
    """
    ties = np.bincount(places, weights=counts)
    mean_ranks = np.cumsum(ties) - (ties - 1) / 2
    ranks: np.ndarray = mean_ranks[places]
    return ranks


def _correlation(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> float:
    drawn = counts > 0
    x, y, counts = x[drawn], y[drawn], counts[drawn]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = (v - np.average(v, weights=counts) for v in (x, y))
    weighted = counts * x
    return float(weighted @ y / np.sqrt((weighted @ x) * ((counts * y) @ y)))
