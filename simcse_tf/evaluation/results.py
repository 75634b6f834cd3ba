"""What models reach on tasks and own sets, and how two of them differ.

`evaluate` prints it and `report` draws it. No model is known here: any
`encode(sentences)` does.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.evaluation import own_sets, significance, sts, transfer
from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.significance import Comparison, Estimate
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.tasks import Tasks
from simcse_tf.evaluation.transfer import Result


@dataclass(frozen=True)
class Scoring:
    """How tasks are scored; the defaults are the paper's.

    Attributes:
        metric: `"spearman"` or `"pearson"`, for STS and own pairs.
        aggregation: `"all"`, `"mean"` or `"wmean"`, for STS; see `sts.score`.
        split: `"test"` or `"dev"`, for the accuracies of transfer tasks.
        folds: int. Folds of every cross-validation of a transfer task.

    Example:

    ```python
    Scoring(metric="pearson", folds=5)
    ```
    """

    metric: str = "spearman"
    aggregation: str = "all"
    split: str = "test"
    folds: int = transfer.FOLDS


@dataclass(frozen=True)
class ModelResults:
    """What one model reached.

    Attributes:
        similarities: float64 `(n,)` of each STS task by its name.
        estimates: The score of each STS task, and their mean as `"avg"`.
        transfer: The result of each transfer task by its name.
        accuracies: The numbers of the transfer tasks' table, and `"transfer_avg"`.
        samples: What each example of the own sets gave; see `own_sets.Samples`.
        own: The scores of the own sets, and their mean as `"own_avg"`.

    Example:

    ```python
    measure(encode, load_tasks(find_data("senteval"))).estimates["avg"].value
    ```
    """

    similarities: Mapping[str, np.ndarray]
    estimates: Mapping[str, Estimate]
    transfer: Mapping[str, Result]
    accuracies: Mapping[str, float]
    samples: Mapping[str, np.ndarray] = field(default_factory=dict)
    own: Mapping[str, Estimate] = field(default_factory=dict)

    def scores(self) -> dict[str, float]:
        """All scores; see `with_average` for `"avg"`."""
        estimated = {**self.estimates, **self.own}
        values = {name: estimate.value for name, estimate in estimated.items()}
        return with_average({**values, **self.accuracies})

    def details(self, tasks: Tasks) -> dict[str, Any]:
        """The scores, their intervals, and everything they are made of, for JSON.

        Args:
            tasks: What it was measured on.
        """
        return {
            "scores": self.scores(),
            "intervals": {
                task: (estimate.low, estimate.high)
                for task, estimate in {**self.estimates, **self.own}.items()
            },
            "sts": {
                task: sts.all_scores(similarity, tasks.sts[task])
                for task, similarity in self.similarities.items()
            },
            "own": {
                name: own_sets.set_details(name, own, self.samples)
                for name, own in tasks.own.items()
            },
            "transfer": {
                task: asdict(result) for task, result in self.transfer.items()
            },
        }


def with_average(scores: Mapping[str, float]) -> dict[str, float]:
    """Adds `"avg"`: the mean of STS tasks, or else of own sets, or of transfer tasks.

    Example:

    ```python
    with_average({"mine": 80.0, "own_avg": 80.0})["avg"]  # 80.0
    ```
    """
    averages = ("avg", own_sets.AVERAGE, "transfer_avg")
    first = next(name for name in averages if name in scores)
    return {**scores, "avg": scores[first]}


def evaluate(
    encode: Encoder, tasks: Tasks, undefined: float | None = None
) -> dict[str, float]:
    """The scores of STS tasks and own sets, without intervals.

    Args:
        encode: As for `measure`.
        tasks: As `load_tasks` returns them.
        undefined: Optional float. The score where one is undefined. Defaults to `None`:
            0.0, with a `RuntimeWarning`; see `sts.spearman`.

    Returns:
        The scores by name, times 100, `"avg"` among them.

    Example:

    ```python
    evaluate(encode, load_tasks(find_data("pairs.csv")))["pairs"]
    ```
    """
    once = CachingEncoder(encode)
    scores = sts.evaluate_pairs(once, tasks.sts, undefined) if tasks.sts else {}
    if tasks.own:
        samples = own_sets.measure_sets(once, tasks.own)
        scores |= own_sets.set_scores(samples, tasks.own, undefined=undefined)
    return with_average(scores)


def measure(
    encode: Encoder,
    tasks: Tasks,
    scoring: Scoring | None = None,
    progress: bool = False,
) -> ModelResults:
    """What a model reaches on tasks.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors. Is
            given no sentence twice.
        tasks: As `load_tasks` returns them.
        scoring: Optional `Scoring`. Defaults to the paper's.
        progress: bool. Whether to show a progress bar for each transfer task on
            stderr. Defaults to `False`.

    Raises:
        UserError: A task received embeddings with NaN or infinity.
        ValueError: `encode` returned another shape.

    Example:

    ```python
    encode = load_encoder("runs/mine/best", normalize=False)
    measure(encode, load_tasks(find_data("senteval"))).scores()
    ```
    """
    scoring = scoring or Scoring()
    cached = encode if isinstance(encode, CachingEncoder) else CachingEncoder(encode)
    similarities = sts.similarities(cached, tasks.sts) if tasks.sts else {}
    found = estimates(similarities, tasks.sts, scoring.metric, scoring.aggregation)
    results: dict[str, Result] = {}
    accuracies: dict[str, float] = {}
    if tasks.transfer:
        results = transfer.evaluate_examples(
            cached, tasks.transfer, scoring.folds, progress
        )
        accuracies = transfer.scores(results, scoring.split)
    samples = own_sets.measure_sets(cached, tasks.own)
    own = own_sets.set_estimates(samples, tasks.own, scoring.metric)
    return ModelResults(similarities, found, results, accuracies, samples, own)


def estimates(
    similarities: Mapping[str, ArrayLike],
    pairs: Mapping[str, Pairs],
    metric: str = "spearman",
    aggregation: str = "all",
) -> dict[str, Estimate]:
    """The score of each STS task, and their mean as `"avg"`, with 95% intervals.

    Args:
        similarities: `(n,)` of each task by its name, as `sts.similarities` returns
            them.
        pairs: The pairs of each task by its name.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        aggregation: `"all"`, `"mean"` or `"wmean"`; see `sts.score`. Defaults to
            `"all"`.

    Returns:
        An `Estimate` by name; empty where there is no task.

    Example:

    ```python
    estimates(sts.similarities(encode, pairs), pairs)["STSBenchmark"]
    ```
    """
    if not similarities:
        return {}
    scores = sts.with_average(
        {
            task: sts.score(similarity, pairs[task], metric, aggregation)
            for task, similarity in similarities.items()
        }
    )
    intervals = significance.intervals(similarities, pairs, metric, aggregation)
    return {name: Estimate(score, *intervals[name]) for name, score in scores.items()}


def compare(
    one: ModelResults,
    other: ModelResults,
    tasks: Tasks,
    scoring: Scoring | None = None,
) -> dict[str, Comparison]:
    """How far one model's STS and own scores are above another's.

    Args:
        one: A model's results, as `measure` returns them.
        other: Another model's results on the same tasks.
        tasks: What both were measured on.
        scoring: Optional `Scoring`. Defaults to the paper's.

    Returns:
        A `Comparison` for each STS task, and for their mean as `"avg"`; one for each
        score of own sets, and for their mean as `"own_avg"`.

    Example:

    ```python
    compare(measure(encode_a, tasks), measure(encode_b, tasks), tasks)["avg"].p_value
    ```
    """
    scoring = scoring or Scoring()
    of_sts = (
        significance.comparisons(
            one.similarities,
            other.similarities,
            tasks.sts,
            scoring.metric,
            scoring.aggregation,
        )
        if tasks.sts
        else {}
    )
    of_own = own_sets.set_comparisons(
        one.samples, other.samples, tasks.own, scoring.metric
    )
    return {**of_sts, **of_own}
