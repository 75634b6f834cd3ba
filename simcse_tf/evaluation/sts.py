"""The seven STS tasks of the SimCSE paper, for any sentence encoder.

Semantic textual similarity: people scored how alike two sentences mean, the
encoder's cosine similarity should rank the pairs as they did. The protocol is the
paper's (Gao et al. 2021, appendix B): no regressor on top, Spearman's correlation,
and the "all" aggregation, one correlation over all of a task's subsets together.
Older work took Pearson's correlation, or the mean over subsets; both are here too.

No model is known here.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.evaluation.caching import CachingEncoder, Encoder
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
    """
    return evaluate_pairs(encode, load_tasks(data_dir, tasks, split))


def evaluate_pairs(encode: Encoder, loaded: Mapping[str, Pairs]) -> dict[str, float]:
    """`evaluate_sts` of pairs that `load_tasks` has read."""
    return with_average(
        {
            task: score(similarity, loaded[task])
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
) -> float:
    """A task's score: correlation with the human scores, times 100.

    Args:
        similarity: `(n,)`, what the model says of each pair.
        pairs: The n pairs.
        metric: `"spearman"` or `"pearson"`. Defaults to `"spearman"`.
        aggregation: How the task's subsets become one number. `"all"`: one
            correlation over all pairs; `"mean"`: the mean of the subsets'
            correlations; `"wmean"`: their mean weighted by their numbers of pairs.
            Defaults to `"all"`.

    Returns:
        A number from -100 to 100.

    Reference:
        - Gao et al. 2021, appendix B, on what published results aggregate.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {[*METRICS]}, received {metric!r}")
    similarity = np.asarray(similarity)
    correlation = METRICS[metric]
    return 100.0 * math.fsum(
        weight * correlation(similarity[part], pairs.scores[part])
        for part, weight in parts(pairs, aggregation)
    )


def all_scores(similarity: ArrayLike, pairs: Pairs) -> dict[str, Any]:
    """A task's scores by every metric and aggregation, and those of its subsets.

    Args:
        similarity: `(n,)`, what the model says of each pair.
        pairs: The n pairs.

    Returns:
        `"pairs"`, their number; by metric the score by aggregation, such as
        `["spearman"]["all"]`; and of each of the `"subsets"`, by its name, the number
        of pairs and the score by metric. Scores are times 100.
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
    """The `parts` of the mean over tasks, their pairs in one row one after another."""
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
    """Adds the mean of all scores, as `"avg"`."""
    return {**scores, "avg": math.fsum(scores.values()) / len(scores)}


def cosine_similarity(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of the angle between each row of `a` and the same row of `b`.

    Args:
        a: `(n, dim)`, any real dtype; computed in float64.
        b: `(n, dim)`.

    Returns:
        float64 `(n,)`. A vector of length zero has similarity 0 with every vector.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dot = np.sum(a * b, axis=-1)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.divide(dot, norms, out=np.zeros_like(dot), where=norms != 0)


def spearman(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Spearman's rank correlation, ties with their mean rank.

    Where the correlation is undefined (a side is constant, as when a model has
    collapsed, or holds NaN or infinity) the answer is 0.0 with a `RuntimeWarning`:
    such a model ranks nothing, and a NaN would win or lose every comparison of
    checkpoints by accident.

    Args:
        predicted: `(n,)`.
        gold: `(n,)`.

    Returns:
        A number from -1 to 1.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(gold, np.float64)
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic) if _defined(x, y) else 0.0


def pearson(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Pearson's linear correlation; 0.0 where undefined, as `spearman`.

    Args:
        predicted: `(n,)`.
        gold: `(n,)`.

    Returns:
        A number from -1 to 1.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(gold, np.float64)
    from scipy.stats import pearsonr

    return float(pearsonr(x, y).statistic) if _defined(x, y) else 0.0


METRICS = {"spearman": spearman, "pearson": pearson}


def format_table(scores: Mapping[str, float]) -> str:
    """One model's scores under the paper's column names; see `format_models`."""
    return format_models({"": scores})


def format_models(models: Mapping[str, Mapping[str, float]]) -> str:
    """A table of the paper's form (tables 5 and 6): a line per model.

    Args:
        models: The scores of each model by its name, as `evaluate_sts` returns
            them. Where a model lacks a score, the table has a dash.

    Returns:
        Lines of equal width, two decimals, without a final newline.
    """
    return format_rows(list(models.items()), LABELS)


def _defined(x: np.ndarray, y: np.ndarray) -> bool:
    defined = all(v.size > 1 and np.isfinite(v).all() and np.ptp(v) > 0 for v in (x, y))
    if not defined:
        warnings.warn(
            "constant or non-finite similarities rank nothing: correlation set to 0",
            RuntimeWarning,
            stacklevel=3,
        )
    return defined
