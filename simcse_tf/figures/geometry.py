"""Alignment against uniformity, and singular values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from simcse_tf.figures import style
from simcse_tf.figures.themes import Theme

# Values smaller than this part of the largest are rounding errors.
_SMALLEST_RATIO = 1e-5
# A linear axis shows no difference among smaller ratios.
_LOGARITHMIC_BELOW = 0.01
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# The first and the last point of a trajectory.
_HOLLOW: dict[str, Any] = {"markerfacecolor": "none"}
_FIRST = _HOLLOW | {"markersize": 6, "markeredgewidth": 0.9}
_LAST = _HOLLOW | {"markersize": 9, "markeredgewidth": 1.4}


class Trajectory(NamedTuple):
    """Alignment and uniformity of one run at some of its steps.

    Attributes:
        steps: `(n,)`. Training steps.
        alignment: `(n,)`. NaN where it is missing.
        uniformity: `(n,)`. NaN where it is missing.

    Example:

    ```python
    Trajectory([1, 10], [0.25, 0.21], [-1.9, -2.4])
    ```
    """

    steps: Sequence[float]
    alignment: Sequence[float]
    uniformity: Sequence[float]


def trajectory(runs: Mapping[str, Trajectory], *, theme: str = "light") -> Figure:
    """Alignment over uniformity while runs train, points coloured by step.

    Each run has its own marker and line; its first and its last point are framed.

    Args:
        runs: A `Trajectory` by the run's name.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no run or no such theme, or a run's sequences differ in
            length.

    Example:

    ```python
    points = Trajectory([1, 10], [0.25, 0.21], [-1.9, -2.4])
    save(trajectory({"mine": points}), "trajectory")
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), figures 2 and 3
    """
    style.not_empty("runs", runs)
    points = [_points(name, run) for name, run in runs.items()]
    with style.themed(theme) as colours:
        figure = style.new(3.6)
        axes = figure.add_subplot()
        together = np.concatenate(points)
        scale = _scale(together[:, 0], colours)
        for i, run in enumerate(points):
            _draw_run(axes, run, i, scale, colours)
        axes.set_xlabel("Uniformity (lower is better)")
        axes.set_ylabel("Alignment (lower is better)")
        axes.set_xlim(style.limits(together[:, 2], least=0.02))
        axes.set_ylim(style.limits(together[:, 1], least=0.01))
        style.plain_ticks(axes.xaxis, 7)
        style.plain_ticks(axes.yaxis, 6)
        if not len(together):
            style.empty(axes, colours)
        elif np.ptp(together[:, 0]):
            bar = figure.colorbar(scale, ax=axes, aspect=30, pad=0.02)
            bar.outline.set_visible(False)
            bar.set_label("Training step")
            style.step_ticks(bar.ax.yaxis, 6)
        style.legend(figure, *_trajectory_legend(list(runs), colours))
        return style.finish(figure)


def _points(name: str, run: Trajectory) -> np.ndarray:
    """`(n, 3)`: step, alignment and uniformity where all three are there."""
    columns = [np.asarray(column, np.float64) for column in run]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        raise ValueError(
            "steps, alignment and uniformity of a run must have the same length. "
            f"Received for {name!r}: shapes {[column.shape for column in columns]}"
        )
    rows = np.stack(columns, axis=1)
    return rows[np.isfinite(rows).all(axis=1)]


def _scale(steps: np.ndarray, theme: Theme) -> ScalarMappable:
    low, high = (steps.min(), steps.max()) if len(steps) else (0, 1)
    return ScalarMappable(Normalize(low, max(high, low + 1)), theme.colormap())


def _draw_run(
    axes: Axes, run: np.ndarray, i: int, scale: ScalarMappable, theme: Theme
) -> None:
    steps, alignment, uniformity = run.T
    line = style.line(theme, i) | {"linewidth": 0.8}
    axes.plot(uniformity, alignment, **line, zorder=2)
    axes.scatter(
        uniformity,
        alignment,
        # Small where there are many: they would cover each other.
        s=np.clip(800 / max(len(steps), 1), 4, 14),
        color=scale.to_rgba(steps),
        marker=style.marker(i),
        zorder=3,
    )
    for end, look in ((slice(0, 1), _FIRST), (slice(-1, None), _LAST)):
        axes.plot(
            uniformity[end],
            alignment[end],
            marker=style.marker(i),
            color=theme.text,
            zorder=4,
            **look,
        )


def _trajectory_legend(names: list[str], theme: Theme) -> tuple[list[Any], list[str]]:
    runs = [
        Line2D([], [], marker=style.marker(i), markersize=4, **style.line(theme, i))
        for i in range(len(names))
    ]
    ends = [
        Line2D([], [], marker="o", linestyle="", color=theme.text, **look)
        for look in (_FIRST, _LAST)
    ]
    return [*runs, *ends], [*names, "first point", "last point"]


def singular_values(models: Mapping[str, ArrayLike], *, theme: str = "light") -> Figure:
    """Singular values of the embeddings, relative to the largest.

    The axis is logarithmic where a linear one would show the smallest as zero.

    Args:
        models: `(k,)` singular values, largest first, by the model's name.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no model or no such theme.

    Example:

    ```python
    values = geometry.singular_values(embeddings)
    save(singular_values({"mine": values}), "spectrum")
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 5
    """
    style.not_empty("models", models)
    ratios = [_relative(values) for values in models.values()]
    with style.themed(theme) as colours:
        figure = style.new(2.8)
        axes = figure.add_subplot()
        for i, ratio in enumerate(ratios):
            lone = style.marker(i) if np.isfinite(ratio).sum() == 1 else None
            places = np.arange(1, len(ratio) + 1)
            axes.plot(places, ratio, marker=lone, **style.line(colours, i))
        longest = max(map(len, ratios))
        axes.set_xlabel("Index of the singular value")
        axes.set_ylabel("Relative to the largest")
        axes.set_xlim(style.limits([1, longest], least=1, margin=0.02))
        style.step_ticks(axes.xaxis, 8)
        _ratio_axis(axes, np.concatenate(ratios))
        if not np.isfinite(np.concatenate(ratios)).any():
            style.empty(axes, colours)
        handles = [Line2D([], [], **style.line(colours, i)) for i in range(len(ratios))]
        style.legend(figure, handles, list(models))
        return style.finish(figure)


def _relative(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64)
    largest = values.max(initial=0)
    return values / largest if largest > 0 else np.full(len(values), np.nan)


def _ratio_axis(axes: Axes, ratios: np.ndarray) -> None:
    seen = ratios[ratios >= _SMALLEST_RATIO]
    smallest = seen.min(initial=1)
    if smallest >= _LOGARITHMIC_BELOW:
        axes.set_ylim(0, 1.05)
        style.plain_ticks(axes.yaxis)
        return
    axes.set_yscale("log")
    axes.set_ylim(smallest / 1.3, 1.3)
    axes.yaxis.set_major_locator(LogLocator(10, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(_power))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _power(ratio: float, _: int) -> str:
    power = round(np.log10(ratio))
    return "1" if power == 0 else "10" + str(power).translate(_SUPERSCRIPT)
