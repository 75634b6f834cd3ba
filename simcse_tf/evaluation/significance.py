"""How certain a score, or the difference of two models, is.

Reference:
    - Efron and Tibshirani 1993, An Introduction to the Bootstrap: percentile
      intervals (chapter 13), tests that follow from intervals (chapter 15).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.evaluation.bootstrap import RESAMPLES, Draws, correlation_draws
from simcse_tf.evaluation.sts import Pairs, Part, average_parts

CONFIDENCE = 0.95


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
