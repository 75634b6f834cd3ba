"""The tables that `evaluate` prints."""

from collections.abc import Mapping, Sequence

from simcse_tf.evaluation import sts, transfer
from simcse_tf.evaluation.own_sets import AVERAGE
from simcse_tf.evaluation.results import ModelResults
from simcse_tf.evaluation.significance import Comparison, Estimate
from simcse_tf.evaluation.tables import Row, format_rows

_SCORE = {"score": "score"}


def format_scores(scores: Mapping[str, float]) -> str:
    """The scores of STS tasks under the paper's names, and those of own sets.

    Args:
        scores: As `results.evaluate` returns them.

    Returns:
        Lines without a final newline.

    Example:

    ```python
    print(format_scores({"mine": 71.0, "own_avg": 71.0, "avg": 71.0}))
    ```
    """
    own = [name for name in scores if name not in {*sts.LABELS, AVERAGE}]
    tables = []
    if any(name in scores for name in sts.TASKS):
        tables.append(sts.format_table(scores))
    if own:
        rows = [(name, {"score": scores[name]}) for name in own]
        if len({name.partition(":")[0] for name in own}) > 1:
            rows.append(("Avg.", {"score": scores[AVERAGE]}))
        tables.append(format_rows(rows, _SCORE))
    return "\n".join(tables)


def format_sts(
    titles: Sequence[str],
    results: Sequence[ModelResults],
    comparisons: Mapping[str, Comparison] | None = None,
) -> str:
    """STS scores with their intervals, and the difference of two models.

    Args:
        titles: What each model is called; empty strings need no room.
        results: What each model reached.
        comparisons: Optional. The first model against the second one.

    Returns:
        Lines of equal width, without a final newline.

    Example:

    ```python
    print(format_sts([""], [measure(encode, tasks)]))
    ```
    """
    rows: list[Row] = []
    for title, result in zip(titles, results, strict=True):
        rows += _estimate_rows(title, result.estimates)
    if comparisons:
        differences = {task: _difference(c) for task, c in comparisons.items()}
        p_values = {task: f"{found.p_value:.3f}" for task, found in comparisons.items()}
        rows += [*_estimate_rows("difference", differences), ("p", p_values)]
    return format_rows(rows, sts.LABELS)


def format_own(
    titles: Sequence[str],
    results: Sequence[ModelResults],
    comparisons: Mapping[str, Comparison] | None = None,
) -> str:
    """Scores on own sets with their intervals: a line a score, a column a model.

    Args:
        titles: What each model is called.
        results: What each model reached.
        comparisons: Optional. The first model against the second one.

    Returns:
        Lines of equal width, without a final newline.

    Example:

    ```python
    print(format_own(["mine"], [measure(encode, tasks)]))
    ```
    """
    rows: list[Row] = []
    names = list(results[0].own)
    for name in names if len(names) > 2 else names[:1]:
        cells = {
            str(column): _with_interval(result.own[name])
            for column, result in enumerate(results)
        }
        if comparisons:
            found = comparisons[name]
            cells |= {
                "difference": _with_interval(_difference(found)),
                "p": f"{found.p_value:.3f}",
            }
        rows.append(("Avg." if name == AVERAGE else name, cells))
    labels = {str(i): title or "95% interval" for i, title in enumerate(titles)}
    return format_rows(rows, {**labels, "difference": "difference", "p": "p"})


def format_transfer(titles: Sequence[str], results: Sequence[ModelResults]) -> str:
    """Accuracies on transfer tasks, and the difference of two models.

    Args:
        titles: What each model is called.
        results: What each model reached.

    Returns:
        Lines of equal width, without a final newline.

    Example:

    ```python
    print(format_transfer([""], [measure(encode, tasks)]))
    ```
    """
    accuracies = [result.accuracies for result in results]
    rows: list[Row] = list(zip(titles, accuracies, strict=True))
    if len(accuracies) == 2:
        one, other = accuracies
        rows.append(("difference", {task: one[task] - other[task] for task in one}))
    return format_rows(rows, transfer.LABELS)


def format_seconds(titles: Sequence[str], results: Sequence[ModelResults]) -> str:
    """How long each transfer task took to encode and to fit.

    Args:
        titles: What each model is called.
        results: What each model reached.

    Returns:
        Lines of equal width, without a final newline.

    Example:

    ```python
    print(format_seconds([""], [measure(encode, tasks)]))
    ```
    """
    rows: list[Row] = []
    for title, result in zip(titles, results, strict=True):
        for part in ("encoding", "fitting"):
            seconds = {task: r.seconds[part] for task, r in result.transfer.items()}
            cells = {**seconds, "total": sum(seconds.values())}
            name = f"{part}, s {title}".rstrip()
            rows.append((name, {task: f"{cell:.1f}" for task, cell in cells.items()}))
    return format_rows(rows, {**transfer.LABELS, "total": "Total"})


def _with_interval(score: Estimate) -> str:
    return f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"


def _estimate_rows(title: str, estimates: Mapping[str, Estimate]) -> list[Row]:
    return [
        (title, {task: estimate.value for task, estimate in estimates.items()}),
        ("95% from", {task: estimate.low for task, estimate in estimates.items()}),
        ("      to", {task: estimate.high for task, estimate in estimates.items()}),
    ]


def _difference(found: Comparison) -> Estimate:
    return Estimate(found.difference, found.low, found.high)
