"""What a run logs: loss, dev score, learning rate, throughput."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simcse_tf.figures import style
from simcse_tf.figures.themes import Theme

_BENCHMARK = "STSBenchmark"
_DEV = "dev_"
# The moving average's window is this part of all steps.
_SMOOTHING = 30
# A line of more points is drawn with this many: enough for print.
_MOST_POINTS = 1000
_PALE: dict[str, Any] = {"linewidth": 0.5, "linestyle": "-", "zorder": 1.5}


def training_curves(
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    selection: str = _BENCHMARK,
    theme: str = "light",
) -> Figure:
    """Loss, dev score, learning rate and throughput by training step.

    Noisy values have a pale line, and a bold one with their moving average. The best
    dev score has a mark. A panel without any value is left out.

    Args:
        runs: The rows of `metrics.jsonl` by the run's name: `"step"`, and any of
            `"loss"`, the dev score, `"learning_rate"` and `"examples_per_second"`. A
            row may lack any of them, or have `None`.
        selection: The dev score that is shown, by the row's key without `dev_`.
            Defaults to `"STSBenchmark"`.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no run or no such theme.

    Example:

    ```python
    training_curves({"mine": RunDirectory("runs/mine").metrics()})
    ```
    """
    style.not_empty("runs", runs)
    window = _window(max(map(len, runs.values())))
    with style.themed(theme) as colours:
        panels_of = _panels(selection)
        every = {key: _curves(runs, key) for key in panels_of}
        series = {k: c for k, c in every.items() if any(len(run[0]) for run in c)}
        rows, columns = max(1, math.ceil(len(series) / 2)), max(1, min(2, len(series)))
        figure = style.new(2.1 * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        steps = [row["step"] for log in runs.values() for row in log]
        for axes, (key, curves) in zip(panels, series.items(), strict=False):
            _draw_panel(axes, panels_of[key], curves, window, colours)
            axes.set_xlim(style.limits(steps, least=1, margin=0.03))
        for axes in panels[len(series) :]:
            style.empty(axes, colours) if not series else axes.remove()
        figure.supxlabel("Training step", size=style.TEXT)
        handles = [Line2D([], [], **style.line(colours, i)) for i in range(len(runs))]
        best = _with_best(list(runs), every[_DEV + selection])
        style.legend(figure, handles, best)
        return style.finish(figure)


class _Panel(NamedTuple):
    """The axis' name, the least difference that it shows, and how values are drawn."""

    name: str
    least: float
    is_noisy: bool = False
    has_best: bool = False


def _panels(selection: str) -> dict[str, _Panel]:
    score = "STS-B dev\nSpearman" if selection == _BENCHMARK else f"{selection}\ndev"
    return {
        "loss": _Panel("Training loss", 1e-3, is_noisy=True),
        _DEV + selection: _Panel(f"{score} × 100", 0.1, has_best=True),
        "learning_rate": _Panel("Learning rate", 1e-9),
        "examples_per_second": _Panel("Examples per second", 1.0, is_noisy=True),
    }


def _curves(
    runs: Mapping[str, Sequence[Mapping[str, float]]], key: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The steps and values of each run where `key` has one."""
    curves = []
    for rows in runs.values():
        pairs = [(row["step"], row.get(key)) for row in rows]
        steps, values = np.array(pairs, np.float64).reshape(-1, 2).T
        there = np.isfinite(values)
        curves.append((steps[there], values[there]))
    return curves


def _window(rows: int) -> int:
    """An odd number of steps."""
    return 2 * (rows // _SMOOTHING // 2) + 1


def _moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of `window` values around each, of fewer at both ends."""
    ones = np.ones(window)
    sums = np.convolve(values, ones)
    counts = np.convolve(np.ones(len(values)), ones)
    margin = window // 2
    return (sums / counts)[margin : margin + len(values)]


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest point of each stretch of a long line."""
    if len(x) <= _MOST_POINTS:
        return x, y
    stretches = np.array_split(np.arange(len(x)), _MOST_POINTS // 2)
    kept = {0, len(x) - 1}
    for stretch in stretches:
        values = y[stretch]
        kept |= {stretch[values.argmin()], stretch[values.argmax()]}
    places = sorted(kept)
    return x[places], y[places]


def _draw_panel(
    axes: Axes,
    panel: _Panel,
    curves: list[tuple[np.ndarray, np.ndarray]],
    window: int,
    theme: Theme,
) -> None:
    for i, (steps, values) in enumerate(curves):
        look = style.line(theme, i) | {"marker": "o" if len(steps) == 1 else None}
        if panel.is_noisy and window > 1 and len(steps):
            pale = _PALE | {"alpha": 0.4 / len(curves) ** 0.5}
            axes.plot(*_thin(steps, values), **look | pale)
            values = _moving_average(values, window)
        axes.plot(*_thin(steps, values), **look)
    if panel.has_best:
        _mark_best(axes, curves, theme)
    if panel.is_noisy and window > 1:
        note = f"bold: mean over {window} steps"
        axes.set_title(note, loc="right", size=style.SMALL, color=theme.muted)
    axes.set_ylabel(panel.name)
    every = np.concatenate([c[1] for c in curves])
    axes.set_ylim(style.limits(every, panel.least, margin=0.1))
    style.step_ticks(axes.xaxis)
    style.plain_ticks(axes.yaxis)


def _mark_best(
    axes: Axes, curves: list[tuple[np.ndarray, np.ndarray]], theme: Theme
) -> None:
    for i, (steps, values) in enumerate(curves):
        if len(values):
            best = values.argmax()
            axes.plot(
                steps[best],
                values[best],
                marker="*",
                markersize=9,
                color=theme.colour(i),
                markeredgecolor=theme.text,
                markeredgewidth=0.6,
            )


def _with_best(names: list[str], dev: list[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """The runs' names, with the best dev score and its step."""
    texts = []
    for name, (steps, values) in zip(names, dev, strict=True):
        if len(values):
            best = values.argmax()
            name += f" · best {values[best]:.2f} at {steps[best]:,.0f}"
        texts.append(name)
    return texts
