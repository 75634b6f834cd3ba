"""The seven STS tasks of the SimCSE paper, for any sentence encoder.

Semantic textual similarity: people scored how similar two sentences are in meaning,
and the encoder's cosine similarity should rank the pairs as they did. The protocol is
the paper's (Gao et al. 2021, appendix B): no regressor on top, Spearman's correlation,
and the "all" aggregation, one correlation over all of a task's subsets together.
Older work used Pearson's correlation, or the mean over subsets; both are here too.

No model is known here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.correlation import (
    METRICS,
    cosine_similarity,
    pearson,
    spearman,
)
from simcse_tf.evaluation.sts_files import (
    SPLITS,
    TASKS,
    Pairs,
    available_tasks,
    known_names,
    load_task,
    load_tasks,
    resolve_tasks,
)
from simcse_tf.evaluation.tables import format_rows

__all__ = [
    "AGGREGATIONS",
    "LABELS",
    "METRICS",
    "SPLITS",
    "TASKS",
    "Encoder",
    "Pairs",
    "Part",
    "all_scores",
    "available_tasks",
    "average_parts",
    "cosine_similarity",
    "evaluate_pairs",
    "evaluate_sts",
    "format_models",
    "format_table",
    "known_names",
    "load_task",
    "load_tasks",
    "parts",
    "pearson",
    "resolve_tasks",
    "score",
    "similarities",
    "spearman",
    "with_average",
]

AGGREGATIONS = ("all", "mean", "wmean")
# The paper's names of the columns.
LABELS = {task: task for task in TASKS} | {
    "STSBenchmark": "STS-B",
    "SICKRelatedness": "SICK-R",
    "avg": "Avg.",
}

Part: TypeAlias = tuple[slice, float]


def evaluate_sts(
    encode: Encoder,
    data_dir: str | Path,
    tasks: Sequence[str] = TASKS,
    split: str = "test",
) -> dict[str, float]:
    """Spearman's correlation, times 100, of cosine similarity with human scores.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors.
            Called once, with every distinct sentence of all tasks.
        data_dir: The directory that holds `STS/` and `SICK/`.
        tasks: Names of `TASKS` (see `resolve_tasks` for what users type).
        split: `"train"`, `"dev"` or `"test"`.

    Returns:
        The score of each task, unrounded, and their mean as `"avg"`. Never NaN:
        see `spearman`.

    Raises:
        UserError: No task was named, or as `load_task`.
        ValueError: `encode` returned another shape.

    Example:

    ```python
    encode = load_encoder("runs/mine/best")
    evaluate_sts(encode, "senteval", ["STS12"])  # {"STS12": 72.4, "avg": 72.4}
    ```
    """
    return evaluate_pairs(encode, load_tasks(data_dir, tasks, split))


def evaluate_pairs(
    encode: Encoder, loaded: Mapping[str, Pairs], undefined: float | None = None
) -> dict[str, float]:
    """`evaluate_sts` of pairs that `load_tasks` has read.

    Args:
        encode: As for `evaluate_sts`.
        loaded: The pairs of each task by its name.
        undefined: Optional float. The score where a correlation is undefined. Defaults
            to `None`: 0.0, with a `RuntimeWarning`; see `spearman`.

    Example:

    ```python
    evaluate_pairs(encode, load_tasks("senteval", ["STS12"]))
    ```
    """
    return with_average(
        {
            task: score(similarity, loaded[task], undefined=undefined)
            for task, similarity in similarities(encode, loaded).items()
        }
    )


def similarities(encode: Encoder, loaded: Mapping[str, Pairs]) -> dict[str, np.ndarray]:
    """Cosine similarity of each pair's two embeddings.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors.
            Called once, with every distinct sentence of all tasks.
        loaded: The pairs of each task by its name, as `load_tasks` returns them.

    Returns:
        float64 `(n,)` of each task by its name.

    Raises:
        ValueError: `encode` returned another shape.

    Example:

    ```python
    similarities(encode, load_tasks("senteval", ["STS12"]))["STS12"]
    ```
    """
    once = CachingEncoder(encode)
    once(
        [
            sentence
            for pairs in loaded.values()
            for sentence in (*pairs.sentences_a, *pairs.sentences_b)
        ]
    )
    return {
        task: cosine_similarity(once(pairs.sentences_a), once(pairs.sentences_b))
        for task, pairs in loaded.items()
    }


def score(
    similarity: ArrayLike,
    pairs: Pairs,
    metric: str = "spearman",
    aggregation: str = "all",
    undefined: float | None = None,
) -> float:
    """A task's score: correlation with the human scores, times 100.

    Args:
        similarity: `(n,)`, the model's similarity of each pair.
        pairs: The n pairs.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        aggregation: How the task's subsets become one number. `"all"`: one
            correlation over all pairs; `"mean"`: the mean of the subsets'
            correlations; `"wmean"`: their mean weighted by their numbers of pairs.
            Defaults to `"all"`.
        undefined: Optional float. As for `spearman`, times 100.

    Returns:
        A number from -100 to 100.

    Example:

    ```python
    pairs = load_task("senteval", "STS12")
    score(similarities(encode, {"STS12": pairs})["STS12"], pairs, "pearson", "mean")
    ```

    Reference:
        - Gao et al. 2021, appendix B, on what published results aggregate.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {[*METRICS]}, received {metric!r}")
    similarity = np.asarray(similarity)
    correlation = METRICS[metric]
    return 100.0 * math.fsum(
        weight * correlation(similarity[part], pairs.scores[part], undefined)
        for part, weight in parts(pairs, aggregation)
    )


def all_scores(similarity: ArrayLike, pairs: Pairs) -> dict[str, Any]:
    """A task's scores by every metric and aggregation, and those of its subsets.

    Args:
        similarity: `(n,)`, the model's similarity of each pair.
        pairs: The n pairs.

    Returns:
        `"pairs"`, their number; by metric the score by aggregation, such as
        `["spearman"]["all"]`; and of each of the `"subsets"`, by its name, the number
        of pairs and the score by metric. Scores are times 100.

    Example:

    ```python
    all_scores(similarity, load_task("senteval", "STS12"))["spearman"]["all"]
    ```
    """
    similarity = np.asarray(similarity)
    subsets = {
        name: {
            "pairs": subset.stop - subset.start,
            **{
                metric: 100.0 * correlation(similarity[subset], pairs.scores[subset])
                for metric, correlation in METRICS.items()
            },
        }
        for name, subset in pairs.subsets.items()
    }
    scores = {
        metric: {a: score(similarity, pairs, metric, a) for a in AGGREGATIONS}
        for metric in METRICS
    }
    return {"pairs": len(pairs), **scores, "subsets": subsets}


def parts(pairs: Pairs, aggregation: str = "all") -> list[Part]:
    """Where a task's correlations are taken, and their weights in its score.

    Args:
        pairs: The pairs of a task.
        aggregation: One of `AGGREGATIONS`; see `score`. Defaults to `"all"`.

    Returns:
        Slices of the pairs with weights that add up to 1.

    Example:

    ```python
    parts(load_task("senteval", "STSBenchmark"))  # [(slice(0, 1379), 1.0)]
    ```
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(
            f"aggregation: expected one of {AGGREGATIONS}, received {aggregation!r}"
        )
    if aggregation == "all" or not pairs.subsets:
        return [(slice(0, len(pairs)), 1.0)]
    subsets = list(pairs.subsets.values())
    if aggregation == "mean":
        return [(subset, 1 / len(subsets)) for subset in subsets]
    return [(s, (s.stop - s.start) / len(pairs)) for s in subsets]


def average_parts(tasks: Iterable[Pairs], aggregation: str = "all") -> list[Part]:
    """The `parts` of the mean over tasks, their pairs in one row one after another.

    Example:

    ```python
    average_parts(load_tasks("senteval", ["STS12", "STS13"]).values())
    ```
    """
    tasks = list(tasks)
    found: list[Part] = []
    offset = 0
    for pairs in tasks:
        for part, weight in parts(pairs, aggregation):
            shifted = slice(part.start + offset, part.stop + offset)
            found.append((shifted, weight / len(tasks)))
        offset += len(pairs)
    return found


def with_average(scores: Mapping[str, float]) -> dict[str, float]:
    """Adds the mean of all scores, as `"avg"`.

    Example:

    ```python
    with_average({"STS12": 70.0, "STS13": 80.0})["avg"]  # 75.0
    ```
    """
    return {**scores, "avg": math.fsum(scores.values()) / len(scores)}


def format_table(scores: Mapping[str, float]) -> str:
    """One model's scores under the paper's column names; see `format_models`.

    Example:

    ```python
    print(format_table({"STS12": 72.37, "avg": 72.37}))
    ```
    """
    return format_models({"": scores})


def format_models(models: Mapping[str, Mapping[str, float]]) -> str:
    """A table of the paper's form (tables 5 and 6): a line per model.

    Args:
        models: The scores of each model by its name, as `evaluate_sts` returns
            them. Where a model lacks a score, the table has a dash.

    Returns:
        Lines of equal width, two decimals, without a final newline.

    Example:

    ```python
    print(format_models({"mine": scores, "other": other_scores}))
    ```
    """
    return format_rows(list(models.items()), LABELS)
