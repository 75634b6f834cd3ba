"""The seven transfer tasks of the SimCSE paper, for any sentence encoder.

Embeddings are frozen features; a logistic regression on top of them learns to classify,
and its accuracy measures what they hold. The protocol is SentEval's, with its
classifier of scikit-learn. Where a task has no test split of its own (MR, CR,
SUBJ, MPQA) each fold is predicted from the others; the strength of the regularization
is always chosen without a look at the test examples: on the dev split (SST2), or by
cross-validation on the training examples.

No model is known here.

Reference:
    - Conneau and Kiela 2018, SentEval: An Evaluation Toolkit for Universal Sentence
      Representations, section 4; Gao et al. 2021, appendix E.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from simcse_tf.core.extras import require
from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.transfer_files import (
    TASKS,
    Examples,
    known_names,
    load_task,
    load_tasks,
    resolve_tasks,
)

__all__ = [
    "FAST_FOLDS",
    "FOLDS",
    "LABELS",
    "TASKS",
    "Examples",
    "Result",
    "evaluate_examples",
    "evaluate_transfer",
    "known_names",
    "load_task",
    "load_tasks",
    "resolve_tasks",
    "scores",
]

FOLDS = 10
FAST_FOLDS = 5
# The paper's names of the columns, in its order.
LABELS = {task: task for task in TASKS} | {
    "SST2": "SST",
    "MRPC_f1": "(F1)",
    "transfer_avg": "Avg.",
}

# SentEval's grids of C: inverse regularization. It has another one where it
# cross-validates on the training split of a task.
_GRID = tuple(2.0**t for t in range(-2, 4))
_GRID_WITH_TEST = tuple(2.0**t for t in range(-1, 6))
_SEED = 1111
# scikit-learn's own limit of 100 would end some fits before they reach its tolerance.
_MAX_ITERATIONS = 1000

# Features and labels.
_Data: TypeAlias = tuple[np.ndarray, np.ndarray]
_Fold: TypeAlias = tuple[_Data, _Data]


@dataclass(frozen=True)
class Result:
    """What a task's logistic regression reached.

    Attributes:
        accuracy: float. Share of right predictions, from 0 to 1: of the test split, or
            the mean over the outer folds.
        dev_accuracy: float. The same where C was chosen: the best C's.
        f1: Optional float. F1 of the paraphrases (MRPC only).
        seconds: What each part took: `"encoding"` (of the sentences that no earlier
            task had) and `"fitting"`.

    Example:

    ```python
    evaluate_transfer(encode, "senteval", ["MR"])["MR"].accuracy  # 0.81
    ```
    """

    accuracy: float
    dev_accuracy: float
    f1: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def evaluate_transfer(
    encode: Encoder,
    data_dir: str | Path,
    tasks: Sequence[str] = TASKS,
    folds: int = FOLDS,
    progress: bool = False,
) -> dict[str, Result]:
    """Accuracy of a logistic regression on frozen embeddings.

    Args:
        encode: Maps n strings to an array `(n, dim)`. SimCSE's embeddings are not
            scaled to unit length here. Called once a task, with the distinct sentences
            that no earlier task had.
        data_dir: The directory that holds `MR/`, `CR/`, `SST/` and so on.
        tasks: Names of `TASKS` (see `resolve_tasks` for what users type).
        folds: int, from 2 to 10. Folds of every cross-validation, outer and inner.
            Defaults to `10`; the paper's fast mode has 5.
        progress: bool. Whether to show a progress bar on stderr. Defaults to `False`.

    Returns:
        The `Result` of each task by its name.

    Raises:
        UserError: scikit-learn is missing, no task was named, as `load_task`, or the
            embeddings hold NaN or infinity.
        ValueError: `encode` returned another shape, or `folds` is out of range.

    Example:

    ```python
    encode = load_encoder("runs/mine/best", normalize=False)
    scores(evaluate_transfer(encode, "senteval", ["MR", "CR"]))
    ```
    """
    require("sklearn")
    return evaluate_examples(encode, load_tasks(data_dir, tasks), folds, progress)


def evaluate_examples(
    encode: Encoder,
    loaded: Mapping[str, Mapping[str, Examples]],
    folds: int = FOLDS,
    progress: bool = False,
) -> dict[str, Result]:
    """`evaluate_transfer` of examples that `load_tasks` has read.

    Example:

    ```python
    evaluate_examples(encode, load_tasks("senteval", ["MR"]), folds=5)
    ```
    """
    from tqdm import tqdm

    require("sklearn")
    if not 2 <= folds <= FOLDS:
        raise ValueError(f"folds: expected 2 to {FOLDS}, received {folds}")
    once = CachingEncoder(encode)
    results = {}
    for task, splits in loaded.items():
        start = time.perf_counter()
        # All in one call, which an encoder can sort by length.
        once([s for e in splits.values() for column in e.sentences for s in column])
        data = {split: _features(once, e) for split, e in splits.items()}
        encoded = time.perf_counter()
        total = _scored_folds(data, folds)
        with tqdm(total=total, unit="fold", desc=task, disable=not progress) as bar:
            result = _learn(task, data, folds, bar.update)
        seconds = {
            "encoding": encoded - start,
            "fitting": time.perf_counter() - encoded,
        }
        results[task] = replace(result, seconds=seconds)
    return results


def scores(results: Mapping[str, Result], split: str = "test") -> dict[str, float]:
    """The numbers of a table, times 100.

    Args:
        results: As `evaluate_transfer` returns them.
        split: `"test"`, or `"dev"` for the accuracies where C was chosen.

    Returns:
        The accuracy of each task, `"MRPC_f1"` (test only), and the mean of the
        accuracies as `"transfer_avg"`.

    Example:

    ```python
    scores({"MR": Result(0.81, 0.8)})  # {"MR": 81.0, "transfer_avg": 81.0}
    ```
    """
    dev = split == "dev"
    found = {
        task: 100 * (result.dev_accuracy if dev else result.accuracy)
        for task, result in results.items()
    }
    average = math.fsum(found.values()) / len(found)
    for task, result in results.items():
        if result.f1 is not None and not dev:
            found[f"{task}_f1"] = 100 * result.f1
    return {**found, "transfer_avg": average}


def _features(once: CachingEncoder, examples: Examples) -> _Data:
    columns = [once(sentences) for sentences in examples.sentences]
    if len(columns) == 1:
        return columns[0], examples.labels
    u, v = columns
    return np.concatenate([np.abs(u - v), u * v], axis=1), examples.labels


def _scored_folds(splits: Mapping[str, Any], folds: int) -> int:
    """How many folds the values of C are scored on."""
    if "test" not in splits:
        # Each fold is predicted from the others, which are split again to choose C.
        return folds * folds
    return 1 if "dev" in splits else folds


def _learn(
    task: str, data: Mapping[str, _Data], folds: int, tick: Callable[[], Any]
) -> Result:
    from sklearn.metrics import f1_score

    train = data["train"]
    if "test" not in data:
        return _cross_validate(train, folds, tick)
    if "dev" in data:
        c, dev_accuracy = _choose([(train, data["dev"])], _GRID, tick)
    else:
        c, dev_accuracy = _choose(_split(train, folds), _GRID_WITH_TEST, tick)
    x, y = data["test"]
    predicted = _fit(c, train).predict(x)
    f1 = float(f1_score(y, predicted)) if task == "MRPC" else None
    return Result(float(np.mean(predicted == y)), dev_accuracy, f1)


def _cross_validate(data: _Data, folds: int, tick: Callable[[], Any]) -> Result:
    accuracies, dev_accuracies = [], []
    for train, test in _split(data, folds):
        c, dev_accuracy = _choose(_split(train, folds), _GRID, tick)
        accuracies.append(_fit(c, train).score(*test))
        dev_accuracies.append(dev_accuracy)
    return Result(float(np.mean(accuracies)), float(np.mean(dev_accuracies)))


def _choose(
    folds: Iterable[_Fold], grid: Sequence[float], tick: Callable[[], Any]
) -> tuple[float, float]:
    """The C of the best mean accuracy over folds, and that accuracy."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    # Threads, because a fit is matrix products, which let others run; one each,
    # because these are too small to be shared.
    with threadpool_limits(1, "blas"):
        accuracies = Parallel(n_jobs=-1, prefer="threads")(
            delayed(_along)(grid, *fold, tick) for fold in folds
        )
    means = np.mean(accuracies, axis=0)
    # SentEval compares percentages of two decimals; the first of equal ones wins.
    best = int(np.argmax(np.round(100 * means, 2)))
    return grid[best], float(means[best])


def _along(
    grid: Sequence[float], train: _Data, dev: _Data, tick: Callable[[], Any]
) -> list[float]:
    """The accuracy at each C, every fit beginning where the one before ended."""
    model = _model(warm_start=True)
    found = [model.set_params(C=c).fit(*train).score(*dev) for c in grid]
    tick()
    return found


def _fit(c: float, data: _Data) -> Any:
    return _model(C=c).fit(*data)


def _model(**options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=_MAX_ITERATIONS, **options)


def _split(data: _Data, folds: int) -> Iterator[_Fold]:
    from sklearn.model_selection import StratifiedKFold

    x, y = data
    splitter = StratifiedKFold(folds, shuffle=True, random_state=_SEED)
    for train, test in splitter.split(x, y):
        yield (x[train], y[train]), (x[test], y[test])
