"""How cosine similarity is distributed at each level of the human scores."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde, norm

from simcse_tf.figures import style
from simcse_tf.figures.names import labels
from simcse_tf.figures.themes import Theme

LEVELS = ("0–1", "1–2", "2–3", "3–4", "4–5")
# A density's height, in distances between two levels.
_HEIGHT = 1.35
# Nearly equal cosines would otherwise have too narrow a density to draw.
_LEAST_BANDWIDTH = 0.005
_GRID = 160


def cosine_density(
    models: Mapping[str, tuple[ArrayLike, ArrayLike]], *, theme: str = "light"
) -> Figure:
    """Density of cosine similarity by human score, a panel a model.

    Within a panel all densities have one scale; a bar marks the median. Scores on a
    border belong to the level above, 5 to the last one. A level with one pair shows
    its median alone.

    Args:
        models: Cosines and human scores from 0 to 5, both `(n,)`, by the model's
            name. Pairs where one is NaN are left out.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no model or no such theme, or a model's cosines and
            scores differ in length.

    Example:

    ```python
    figure = cosine_density({"mine": (cosines, pairs.scores)}, theme="dark")
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), appendix, density of
          cosine similarities
    """
    style.not_empty("models", models)
    levels = [_levels(name, *model) for name, model in models.items()]
    with style.themed(theme) as colours:
        rows = math.ceil(len(levels) / 3)
        columns = math.ceil(len(levels) / rows)
        figure = style.new(2.6 * rows)
        panels = figure.subplots(
            rows, columns, sharex=True, sharey=True, squeeze=False
        ).ravel()
        room = 0.8 * style.WIDTH * style.POINT / columns
        titles = labels(list(models), room, style.TEXT, lines=2)
        for axes, model, title in zip(panels, levels, titles, strict=False):
            axes.set_title(title)
            _draw_levels(axes, model, colours)
        _label(figure, panels, np.concatenate([c for model in levels for c in model]))
        for axes in panels[len(levels) :]:
            axes.remove()
        return style.finish(figure)


def _levels(name: str, cosines: ArrayLike, scores: ArrayLike) -> list[np.ndarray]:
    """The cosines of each level."""
    x, gold = np.asarray(cosines, np.float64), np.asarray(scores, np.float64)
    if x.shape != gold.shape or x.ndim != 1:
        raise ValueError(
            "cosines and scores of a model must have the same length. Received "
            f"for {name!r}: shapes {x.shape} and {gold.shape}"
        )
    known = np.isfinite(x) & np.isfinite(gold)
    level = np.clip(np.floor(gold), 0, len(LEVELS) - 1)
    return [x[known & (level == i)] for i in range(len(LEVELS))]


def _draw_levels(axes: Axes, levels: list[np.ndarray], theme: Theme) -> None:
    colours = theme.colormap()(np.linspace(0, 1, len(levels)))
    curves = [_density(cosines) for cosines in levels]
    highest = max((curve[1].max(initial=0) for curve in curves), default=0) or 1
    for i, (cosines, (grid, density)) in enumerate(zip(levels, curves, strict=True)):
        # The lower one lies in front.
        depth = 3 - i / len(levels)
        height = i + _HEIGHT * density / highest
        axes.fill_between(
            grid, i, height, facecolor=colours[i], alpha=0.75, zorder=depth, linewidth=0
        )
        axes.plot(grid, height, color=theme.text, linewidth=0.7, zorder=depth)
        if len(cosines):
            median = np.median(cosines)
            top = np.interp(median, grid, height) if len(grid) else i + 0.3
            axes.plot([median] * 2, [i, top], color=theme.text, zorder=depth, lw=1.4)
    if not any(map(len, levels)):
        style.no_data(axes, theme)


def _density(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A grid and the density there; both empty where there is no density."""
    if len(cosines) < 2:
        return np.empty(0), np.empty(0)
    spread = cosines.std(ddof=1)
    bandwidth = max(spread * len(cosines) ** -0.2, _LEAST_BANDWIDTH)
    low, high = cosines.min() - 3 * bandwidth, cosines.max() + 3 * bandwidth
    grid = np.linspace(max(low, -1), min(high, 1), _GRID)
    if spread < _LEAST_BANDWIDTH:
        return grid, norm.pdf(grid, cosines.mean(), bandwidth)
    return grid, gaussian_kde(cosines, bandwidth / spread)(grid)


def _label(figure: Figure, panels: np.ndarray, cosines: np.ndarray) -> None:
    low, high = style.limits(cosines, least=0.2, margin=0.1)
    first = panels[0]
    first.set_xlim(max(low, -1), min(high, 1))
    first.set_ylim(-0.15, len(LEVELS) - 1 + _HEIGHT + 0.1)
    first.set_yticks(range(len(LEVELS)), LEVELS)
    style.plain_ticks(first.xaxis)
    figure.supxlabel("Cosine similarity (bar: median)", size=style.TEXT)
    figure.supylabel("Human score", size=style.TEXT)
