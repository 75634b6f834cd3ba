"""Scores of models by task, and of a sweep's settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simcse_tf.figures import style
from simcse_tf.figures.names import label as fitted
from simcse_tf.figures.names import labels
from simcse_tf.figures.themes import Theme

Interval = tuple[float, float]

_LABELS = {"STSBenchmark": "STS-B", "SICKRelatedness": "SICK-R", "avg": "Avg."}
# Height of a row of numbers, in inches, and of what is above and below all rows.
_ROW, _FRAME = 0.145, 0.55
_NAME_WIDTH = 170
_MEAN: dict[str, Any] = {"marker": "D", "markersize": 5, "linestyle": ""}
_DEVIATION: dict[str, Any] = {"linewidth": 5, "alpha": 0.35, "solid_capstyle": "butt"}
_SEED: dict[str, Any] = {
    "marker": "o",
    "markersize": 5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.8,
    "linestyle": "",
}


def sts_scores(
    models: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, Interval]] | None = None,
    *,
    label: str = "Spearman × 100",
    theme: str = "light",
) -> Figure:
    """Scores of models side by side, a group a task, each with its number.

    Args:
        models: Scores by task, by the model's name, as `sts.evaluate_sts` returns
            them. Tasks come in the order of the first model, `"avg"` last; a score
            that is missing has a dash.
        intervals: Optional `(low, high)` by task, by the model's name: its
            confidence interval. Any may be missing.
        label: string. What the scores are. Defaults to `"Spearman × 100"`.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no model, no task or no such theme.

    Example:

    ```python
    sts_scores({"mine": {"STS12": 72.4, "avg": 72.4}}, {"mine": {"avg": (70.1, 74.2)}})
    ```
    """
    style.not_empty("models", models)
    tasks = list(dict.fromkeys(task for scores in models.values() for task in scores))
    tasks.sort(key=lambda task: task == "avg")
    style.not_empty("tasks of the models", tasks)
    intervals = intervals or {}
    with style.themed(theme) as colours:
        pitch = len(models) + 0.8
        figure = style.new(_FRAME + _ROW * pitch * len(tasks))
        axes = figure.add_subplot()
        seen: list[float] = []
        for t, task in enumerate(tasks):
            for m, (model, scores) in enumerate(models.items()):
                score = scores.get(task, np.nan)
                interval = intervals.get(model, {}).get(task)
                row = t * pitch + m
                _draw_score(axes, row, score, interval, m, colours)
                seen += [score, *(interval or ())]
        middles = [t * pitch + (len(models) - 1) / 2 for t in range(len(tasks))]
        names = [_LABELS.get(task, task) for task in tasks]
        texts = labels(names, _NAME_WIDTH, style.TEXT, lines=2)
        _rows(axes, middles, texts, pitch, label, colours)
        axes.set_xlim(style.limits(seen, least=2, margin=0.04))
        handles = [
            Line2D(
                [], [], linestyle="", marker=style.marker(i), color=colours.colour(i)
            )
            for i in range(len(models))
        ]
        style.legend(figure, handles, list(models))
        return style.finish(figure)


def _draw_score(
    axes: Axes,
    row: float,
    score: float,
    interval: Interval | None,
    i: int,
    theme: Theme,
) -> None:
    text = style.number(score)
    if interval is not None:
        axes.hlines(row, *interval, color=theme.colour(i), linewidth=1.2)
        text += f"  [{style.number(interval[0])}, {style.number(interval[1])}]"
    axes.plot(
        score,
        row,
        marker=style.marker(i),
        markersize=4.5,
        color=theme.colour(i),
        linestyle="",
    )
    _beside(axes, row, text)


def sweep(
    settings: Sequence[str],
    scores: Sequence[Sequence[float]],
    label: str,
    *,
    theme: str = "light",
) -> Figure:
    """A row a setting: the scores of its seeds, their mean and deviation.

    The deviation is the sample's, with n - 1; a setting with one score has none.

    Args:
        settings: The settings' names, from the top.
        scores: The scores of each setting's seeds; NaN where a run is missing.
        label: string. What the scores are, with its unit.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no setting or no such theme, or there are more or fewer
            lists of scores than settings.

    Example:

    ```python
    sweep(["base", "dropout=0"], [[84.1, 84.2], [83.6, 83.5]], "STS-B dev")
    ```
    """
    style.not_empty("settings", settings)
    if len(settings) != len(scores):
        raise ValueError(
            "`settings` and `scores` must have the same length. "
            f"Received: {len(settings)} settings and {len(scores)} lists of scores"
        )
    seeds = [style.finite(list(values)) for values in scores]
    with style.themed(theme) as colours:
        texts = labels(settings, _NAME_WIDTH, style.TEXT, lines=3)
        pitch = 1.3 + 0.9 * max(text.count("\n") for text in texts)
        figure = style.new(_FRAME + _ROW * pitch * len(settings))
        axes = figure.add_subplot()
        for i, values in enumerate(seeds):
            _draw_seeds(axes, i * pitch, values, colours)
        rows = [i * pitch for i in range(len(settings))]
        _rows(axes, rows, texts, pitch, label, colours)
        axes.set_xlim(style.limits(np.concatenate(seeds), least=0.5))
        handles = [
            Line2D([], [], color=colours.colour(0), **look)
            for look in (_MEAN, _DEVIATION, _SEED)
        ]
        style.legend(figure, handles, ["mean", "deviation over seeds", "one seed"])
        return style.finish(figure)


def _draw_seeds(axes: Axes, row: float, values: np.ndarray, theme: Theme) -> None:
    colour = theme.colour(0)
    text = "–"
    if len(values):
        mean = values.mean()
        text = style.number(mean)
        if len(values) > 1:
            deviation = values.std(ddof=1)
            text += f" ± {style.number(deviation)}"
            span = (mean - deviation, mean + deviation)
            axes.plot(span, [row, row], color=colour, **_DEVIATION)
        axes.plot(values, np.full(len(values), row), color=colour, **_SEED)
        axes.plot(mean, row, color=colour, **_MEAN)
    _beside(axes, row, text)


def _beside(axes: Axes, row: float, text: str) -> None:
    """Text in a column right of the axes."""
    axes.text(
        1.02,
        row,
        text,
        transform=axes.get_yaxis_transform(),
        va="center",
        size=style.SMALL,
    )


def _rows(
    axes: Axes,
    places: Sequence[float],
    texts: Sequence[str],
    pitch: float,
    label: str,
    theme: Theme,
) -> None:
    """Names the rows, the first on top, with a line between two."""
    axes.set_yticks(places, texts, size=style.TEXT, color=theme.text)
    axes.set_ylim(places[-1] + pitch / 2, places[0] - pitch / 2)
    axes.grid(visible=False, axis="y")
    for place in places[1:]:
        axes.axhline(place - pitch / 2, color=theme.grid, linewidth=0.8)
    axes.set_xlabel(fitted(label, 200, style.TEXT, lines=2))
    style.plain_ticks(axes.xaxis, 6)
