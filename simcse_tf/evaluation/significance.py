"""How certain an STS score, or the difference of two models, is: the bootstrap.

The pairs are drawn again with replacement, many times, and each draw is scored. Where
there are several parts (see `sts.parts`), each is drawn from separately.

Reference:
    - Efron and Tibshirani 1993, An Introduction to the Bootstrap: percentile
      intervals (chapter 13), tests that follow from intervals (chapter 15).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.evaluation.sts import METRICS, Pairs, Part, average_parts

CONFIDENCE = 0.95
RESAMPLES = 1000

# The score of each model on its examples, and then on each draw of them:
# `(models, 1 + resamples)`, times 100.
Draws: TypeAlias = np.ndarray
_Side: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """A score and its 95% interval, times 100.

    Example:

    ```python
    estimates(similarities, pairs)["avg"].low
    ```
    """

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """How much one model scores above another on the same pairs.

    Attributes:
        difference: float. The first model's score minus the second's, times 100.
        low: float. Lower end of the interval of the difference.
        high: float. Upper end.
        p_value: float. Two-sided: twice the share of draws in which the difference
            is zero or has the other sign, the pairs themselves counted as one more
            such draw, and at most 1. It is 1 for equal models, never 0, and below
            0.05 about where the 95% interval does not contain zero.

    Example:

    ```python
    found = compare(similarity_a, similarity_b, pairs.scores)
    found.difference, found.p_value
    ```
    """

    difference: float
    low: float
    high: float
    p_value: float


def confidence_interval(
    similarity: ArrayLike,
    gold: ArrayLike,
    *,
    metric: str = "spearman",
    parts: Sequence[Part] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The bootstrap's percentile interval of a score.

    Args:
        similarity: `(n,)`, the model's similarity of each pair.
        gold: `(n,)`, the human score of each pair.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        parts: Optional slices with weights, of which the score is the weighted sum of
            correlations (`sts.parts`). Defaults to one correlation over all pairs.
        confidence: float between 0 and 1. Defaults to `0.95`.
        resamples: int. How often pairs are drawn. Defaults to `1000`.
        seed: int. Equal seeds give equal intervals. Defaults to `0`.

    Returns:
        Its lower and upper end, times 100. A draw whose correlation is undefined
        counts as 0, as in `sts.spearman`.

    Example:

    ```python
    low, high = confidence_interval(similarity, pairs.scores)
    ```
    """
    draws = correlation_draws(
        [similarity], gold, metric, parts, resamples=resamples, seed=seed
    )
    found = estimate(draws, confidence)
    return found.low, found.high


def compare(
    similarity_a: ArrayLike,
    similarity_b: ArrayLike,
    gold: ArrayLike,
    *,
    metric: str = "spearman",
    parts: Sequence[Part] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """The paired bootstrap test: both models are scored on the same draws.

    Args:
        similarity_a: `(n,)`, the first model's similarity of each pair.
        similarity_b: `(n,)`, the second model's.
        gold: `(n,)`, the human score of each pair.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        parts: As in `confidence_interval`.
        confidence: float between 0 and 1. Defaults to `0.95`.
        resamples: int. How often pairs are drawn. Defaults to `1000`.
        seed: int. Defaults to `0`.

    Returns:
        A `Comparison`: how far a is above b.

    Example:

    ```python
    compare(similarity_a, similarity_b, pairs.scores).p_value
    ```
    """
    draws = correlation_draws(
        [similarity_a, similarity_b],
        gold,
        metric,
        parts,
        resamples=resamples,
        seed=seed,
    )
    return comparison(draws, confidence)


def estimate(draws: Draws, confidence: float = CONFIDENCE) -> Estimate:
    """The first model's score, with the interval of its draws.

    Example:

    ```python
    estimate(mean_draws([hits])).low
    ```
    """
    return Estimate(float(draws[0, 0]), *_percentiles(draws[0, 1:], confidence))


def comparison(draws: Draws, confidence: float = CONFIDENCE) -> Comparison:
    """How far the first model is above the second one; see `compare`.

    Example:

    ```python
    comparison(mean_draws([hits_a, hits_b])).p_value
    ```
    """
    difference, *differences = draws[0] - draws[1]
    drawn = np.array(differences)
    fewest = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    p_value = min(1.0, 2 * (1 + int(fewest)) / (1 + len(drawn)))
    return Comparison(float(difference), *_percentiles(drawn, confidence), p_value)


def intervals(
    similarities: Mapping[str, ArrayLike],
    loaded: Mapping[str, Pairs],
    metric: str = "spearman",
    aggregation: str = "all",
) -> dict[str, tuple[float, float]]:
    """The interval of each task's score, and of their mean as `"avg"`.

    Args:
        similarities: `(n,)` of each task by its name, as `sts.similarities` returns
            them.
        loaded: The pairs of each task by its name.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        aggregation: `"all"`, `"mean"` or `"wmean"`; see `sts.score`. Defaults to
            `"all"`.

    Example:

    ```python
    intervals(sts.similarities(encode, pairs), pairs)["avg"]  # (78.2, 80.8)
    ```
    """
    return {
        name: confidence_interval(values, gold, metric=metric, parts=parts)
        for name, [values], gold, parts in _tables([similarities], loaded, aggregation)
    }


def comparisons(
    similarities_a: Mapping[str, ArrayLike],
    similarities_b: Mapping[str, ArrayLike],
    loaded: Mapping[str, Pairs],
    metric: str = "spearman",
    aggregation: str = "all",
) -> dict[str, Comparison]:
    """`compare` of each task, and of their mean as `"avg"`; see `intervals`.

    Example:

    ```python
    a, b = (sts.similarities(encode, pairs) for encode in encoders)
    comparisons(a, b, pairs)["avg"].difference
    ```
    """
    models = [similarities_a, similarities_b]
    return {
        name: compare(a, b, gold, metric=metric, parts=parts)
        for name, [a, b], gold, parts in _tables(models, loaded, aggregation)
    }


def _tables(
    models: Sequence[Mapping[str, ArrayLike]],
    loaded: Mapping[str, Pairs],
    aggregation: str,
) -> Iterator[tuple[str, list[np.ndarray], np.ndarray, list[Part]]]:
    groups = {task: [task] for task in loaded} | {"avg": list(loaded)}
    for name, tasks in groups.items():
        pairs = [loaded[task] for task in tasks]
        yield (
            name,
            [np.concatenate([model[task] for task in tasks]) for model in models],
            np.concatenate([p.scores for p in pairs]),
            average_parts(pairs, aggregation),
        )


def _percentiles(scores: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.percentile(scores, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


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
