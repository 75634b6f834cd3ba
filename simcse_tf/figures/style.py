"""What the figures share: settings, sizes, axes, legends."""

import math
import threading
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

from simcse_tf.figures.names import labels, text_width
from simcse_tf.figures.themes import THEMES, Theme

# The text width of the paper's pages, in inches; and points an inch.
WIDTH = 6.3
POINT = 72
TEXT, SMALL = 8, 7

MARKERS = "osD^vP"
_LINES = ("-", "--", ":", "-.")

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    # A name such as "a_$x$" is no formula.
    "text.parse_math": False,
    # Text as paths: the same on a machine without the font.
    "svg.fonttype": "path",
    "svg.hashsalt": "simcse_tf",
    "savefig.dpi": 300,
}

# Matplotlib has one set of settings a process.
_LOCK = threading.RLock()


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib with this package's settings alone, whatever the user's own are.

    Example:

    ```python
    with settings():
        figure.savefig("plot.png")
    ```
    """
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@contextmanager
def themed(name: str) -> Iterator[Theme]:
    """Settings under which everything made has the theme's colours.

    Raises:
        ValueError: There is no such theme.

    Example:

    ```python
    with themed("dark") as theme:
        figure = new(3.0)
    ```
    """
    if name not in THEMES:
        raise ValueError(
            f"`theme` must be one of {', '.join(map(repr, THEMES))}. "
            f"Received: theme={name!r}"
        )
    theme = THEMES[name]
    with settings():
        matplotlib.rcParams.update(
            {
                "figure.facecolor": theme.background,
                "axes.facecolor": "none",
                "text.color": theme.text,
                "axes.labelcolor": theme.text,
                "axes.titlecolor": theme.text,
                "xtick.color": theme.muted,
                "ytick.color": theme.muted,
                "axes.edgecolor": theme.muted,
                "grid.color": theme.grid,
            }
        )
        yield theme


def new(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, that makes room for all of its text.

    Example:

    ```python
    figure = new(height=3.0)
    ```
    """
    return Figure(figsize=(width, height), layout="constrained")


def finish(figure: Figure) -> Figure:
    """Lays the figure out under the theme's settings, since ticks are made then.

    Example:

    ```python
    figure = finish(new(height=3.0))
    ```
    """
    figure.draw_without_rendering()
    return figure


def not_empty(argument: str, value: Sized) -> None:
    """Checks that a figure has something to show.

    Raises:
        ValueError: It has nothing.

    Example:

    ```python
    not_empty("runs", {})  # raises ValueError
    ```
    """
    if not len(value):
        raise ValueError(f"`{argument}` must not be empty. Received: {value!r}")


def line(theme: Theme, i: int) -> dict[str, Any]:
    """How the line of the i-th run or model looks.

    Example:

    ```python
    axes.plot(steps, losses, **line(theme, 0))
    ```
    """
    style = _LINES[i // len(theme.series) % len(_LINES)]
    return {"color": theme.colour(i), "linestyle": style, "linewidth": 1.4}


def marker(i: int) -> str:
    """The marker of the i-th run or model.

    Example:

    ```python
    marker(0)  # "o"
    ```
    """
    return MARKERS[i % len(MARKERS)]


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """A legend above the axes, never over data; the figure grows by its height.

    Example:

    ```python
    legend(figure, [Line2D([], [], **line(theme, 0))], ["runs/mine"])
    ```
    """
    columns, texts = _columns(names, figure.get_figwidth() * POINT)
    made = figure.legend(
        handles,
        # Matplotlib drops a label that begins with an underscore.
        list(map(str, range(len(texts)))),
        loc="outside upper left",
        ncols=columns,
        handlelength=2.2,
        columnspacing=1.2,
        borderpad=0.2,
    )
    for text, name in zip(made.get_texts(), texts, strict=True):
        text.set_text(name)
    rows = math.ceil(len(texts) / columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * rows)


def _columns(names: Sequence[str], width: float) -> tuple[int, list[str]]:
    """The most columns in which no name must be shortened, or one."""
    room = {columns: width / columns - 40 for columns in (4, 3, 2, 1)}
    whole = labels(names, 10 * width, SMALL)
    widest = max(text_width(name, SMALL) for name in whole)
    columns = next((n for n in room if widest <= room[n]), 1)
    return min(columns, len(names)), labels(names, room[columns], SMALL)


def no_data(axes: Axes, theme: Theme) -> None:
    """Writes "no data" in the middle of the axes.

    Example:

    ```python
    no_data(figure.add_subplot(), theme)
    ```
    """
    axes.text(
        0.5,
        0.5,
        "no data",
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=theme.muted,
    )


def empty(axes: Axes, theme: Theme) -> None:
    """Axes without data and without ticks, which would mean nothing.

    Example:

    ```python
    empty(figure.add_subplot(), theme)
    ```
    """
    no_data(axes, theme)
    axes.set(xticks=[], yticks=[])


def finite(values: Any) -> np.ndarray:
    """The finite ones of some values, as float64 `(n,)`.

    Example:

    ```python
    finite([1.0, np.nan])  # array([1.])
    ```
    """
    values = np.asarray(values, np.float64).ravel()
    kept: np.ndarray = values[np.isfinite(values)]
    return kept


def limits(values: Any, least: float, margin: float = 0.06) -> tuple[float, float]:
    """Limits of an axis around what is finite of `values`, `least` wide at least.

    Values that differ only by rounding would fill the axis otherwise, under labels
    of a dozen digits.

    Example:

    ```python
    axes.set_xlim(limits([80.1, 84.3], least=2))
    ```
    """
    values = finite(values)
    if not len(values):
        return 0.0, 1.0
    low, high = values.min(), values.max()
    least = max(least, 1e-3 * abs(low), 1e-3 * abs(high))
    middle, half = (low + high) / 2, max(high - low, least) / 2
    return middle - half * (1 + 2 * margin), middle + half * (1 + 2 * margin)


def plain_ticks(axis: Any, count: int = 5) -> None:
    """Few ticks, their labels without a common offset.

    Example:

    ```python
    plain_ticks(axes.yaxis)
    ```
    """
    axis.set_major_locator(MaxNLocator(count))
    axis.set_major_formatter(ScalarFormatter(useOffset=False))


def step_ticks(axis: Any, count: int = 5) -> None:
    """Ticks at whole numbers, thousands grouped, millions as such.

    Example:

    ```python
    step_ticks(axes.xaxis)
    ```
    """
    axis.set_major_locator(MaxNLocator(count, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(_steps))


def _steps(step: float, _: int) -> str:
    return f"{step:,.0f}" if step < 1e6 else f"{step / 1e6:g}M"


def number(value: float) -> str:
    """Two decimals and a true minus sign; a dash for NaN and infinity.

    Example:

    ```python
    number(-1.5)  # "−1.50"
    ```
    """
    return f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
