"""What models reach on STS and transfer tasks, and how two of them differ.

`evaluate` prints it and `report` draws it. No model is known here: any
`encode(sentences)` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.extras import require
from simcse_tf.evaluation import significance, sts, transfer
from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.significance import Comparison
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.text_files import resolve_names
from simcse_tf.evaluation.transfer import Examples, Result


@dataclass(frozen=True)
class Tasks:
    """What the files of the tasks hold.

    Attributes:
        sts: The pairs of each STS task by its name.
        transfer: The splits of each transfer task by its name.

    Example:

    ```python
    tasks = load_tasks("senteval", ["sts", "MR"])
    tasks.sts["STS12"].sentences_a[0]
    ```
    """

    sts: Mapping[str, Pairs] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Examples]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scoring:
    """How tasks are scored; the defaults are the paper's.

    Attributes:
        metric: `"spearman"` or `"pearson"`, for STS.
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


@dataclass(frozen=True)
class ModelResults:
    """What one model reached.

    Attributes:
        similarities: float64 `(n,)` of each STS task by its name.
        estimates: The score of each STS task, and their mean as `"avg"`.
        transfer: The result of each transfer task by its name.
        accuracies: The numbers of the transfer tasks' table, and `"transfer_avg"`.

    Example:

    ```python
    measure(encode, load_tasks("senteval", ["sts"])).estimates["avg"].value
    ```
    """

    similarities: Mapping[str, np.ndarray]
    estimates: Mapping[str, Estimate]
    transfer: Mapping[str, Result]
    accuracies: Mapping[str, float]

    def scores(self) -> dict[str, float]:
        """All scores; `"avg"` is the mean of the STS tasks, or else of the others."""
        values = {task: estimate.value for task, estimate in self.estimates.items()}
        scores = {**values, **self.accuracies}
        return scores if values else {**scores, "avg": scores["transfer_avg"]}

    def details(self, pairs: Mapping[str, Pairs]) -> dict[str, Any]:
        """The scores, their intervals, and everything they are made of, for JSON.

        Args:
            pairs: The pairs of each STS task by its name.
        """
        return {
            "scores": self.scores(),
            "intervals": {
                task: (estimate.low, estimate.high)
                for task, estimate in self.estimates.items()
            },
            "sts": {
                task: sts.all_scores(similarity, pairs[task])
                for task, similarity in self.similarities.items()
            },
            "transfer": {
                task: asdict(result) for task, result in self.transfer.items()
            },
        }


def load_tasks(
    data_dir: str | Path, names: Sequence[str], split: str = "test"
) -> Tasks:
    """Reads the tasks that a user names.

    Args:
        data_dir: A directory in SentEval's layout.
        names: Names in any case: `"sts"`, `"transfer"`, single tasks, or several.
        split: `"dev"` or `"test"`. Defaults to `"test"`.

    Raises:
        UserError: A name is unknown, a file is missing or malformed, or scikit-learn,
            which transfer tasks need, is not installed.

    Example:

    ```python
    load_tasks("senteval", ["STS-B", "transfer"])
    ```
    """
    known = sts.known_names(split) | transfer.known_names()
    tasks = resolve_names(names, known)
    sts_tasks = [task for task in tasks if task in sts.TASKS]
    transfer_tasks = [task for task in tasks if task in transfer.TASKS]
    if transfer_tasks:
        require("sklearn")
    return Tasks(
        {task: sts.load_task(data_dir, task, split) for task in sts_tasks},
        {task: transfer.load_task(data_dir, task) for task in transfer_tasks},
    )


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
        UserError: A transfer task received embeddings with NaN or infinity.
        ValueError: `encode` returned another shape.

    Example:

    ```python
    encode = load_encoder("runs/mine/best", normalize=False)
    measure(encode, load_tasks("senteval", ["sts"])).scores()
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
    return ModelResults(similarities, found, results, accuracies)


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
    """How far one model's STS scores are above another's.

    Args:
        one: A model's results, as `measure` returns them.
        other: Another model's results on the same tasks.
        tasks: What both were measured on.
        scoring: Optional `Scoring`. Defaults to the paper's.

    Returns:
        A `Comparison` for each task, and for their mean as `"avg"`; empty where there
        is no STS task.

    Example:

    ```python
    compare(measure(encode_a, tasks), measure(encode_b, tasks), tasks)["avg"].p_value
    ```
    """
    if not tasks.sts:
        return {}
    scoring = scoring or Scoring()
    return significance.comparisons(
        one.similarities,
        other.similarities,
        tasks.sts,
        scoring.metric,
        scoring.aggregation,
    )
