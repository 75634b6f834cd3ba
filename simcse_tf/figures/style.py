"""What the figures share: two themes, sizes, axes, legends."""

import math
import threading
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

from simcse_tf.figures.names import labels, text_width

# The text width of the paper's pages, in inches; and points an inch.
WIDTH = 6.3
POINT = 72
TEXT, SMALL = 8, 7


class Theme(NamedTuple):
    """Colours that keep a contrast of 3 (text: 4.5) with the background.

    The series are Okabe and Ito's, which readers with any kind of colour blindness
    can distinguish; the light theme's last two replace ones too pale for white paper.

    Example:

    ```python
    THEMES["dark"].colour(0)
    ```
    """

    background: str
    text: str
    muted: str
    grid: str
    series: tuple[str, ...]
    # The part of plasma, whose lightness grows evenly, that stands out.
    scale: tuple[float, float]

    def colour(self, i: int) -> str:
        return self.series[i % len(self.series)]

    def colormap(self) -> LinearSegmentedColormap:
        colours = matplotlib.colormaps["plasma"](np.linspace(*self.scale, 256))
        return LinearSegmentedColormap.from_list("steps", colours)


THEMES = {
    "light": Theme(
        background="#ffffff",
        text="#1f2328",
        muted="#57606a",
        grid="#e4e7eb",
        series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#222222", "#7a3e00"),
        scale=(0.0, 0.62),
    ),
    "dark": Theme(
        background="#14171c",
        text="#e6e8eb",
        muted="#a3abb5",
        grid="#2b313a",
        series=("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f5f5f5", "#f0e442"),
        scale=(0.42, 1.0),
    ),
}
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
    """Lays the figure out under the theme's settings, since ticks are made then."""
    figure.draw_without_rendering()
    return figure


def not_empty(argument: str, value: Sized) -> None:
    """Checks that a figure has something to show.

    Raises:
        ValueError: It has nothing.
    """
    if not len(value):
        raise ValueError(f"`{argument}` must not be empty. Received: {value!r}")


def line(theme: Theme, i: int) -> dict[str, Any]:
    """How the line of the i-th run or model looks."""
    style = _LINES[i // len(theme.series) % len(_LINES)]
    return {"color": theme.colour(i), "linestyle": style, "linewidth": 1.4}


def marker(i: int) -> str:
    """The marker of the i-th run or model."""
    return MARKERS[i % len(MARKERS)]


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """A legend above the axes, never over data; the figure grows by its height."""
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
    """Writes "no data" in the middle of the axes."""
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
    """Axes without data and without ticks, which would mean nothing."""
    no_data(axes, theme)
    axes.set(xticks=[], yticks=[])


def finite(values: Any) -> np.ndarray:
    """The finite ones of some values, as float64 `(n,)`."""
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
    """Few ticks, their labels without a common offset."""
    axis.set_major_locator(MaxNLocator(count))
    axis.set_major_formatter(ScalarFormatter(useOffset=False))


def step_ticks(axis: Any, count: int = 5) -> None:
    """Ticks at whole numbers, thousands grouped, millions as such."""
    axis.set_major_locator(MaxNLocator(count, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(_steps))


def _steps(step: float, _: int) -> str:
    return f"{step:,.0f}" if step < 1e6 else f"{step / 1e6:g}M"


def number(value: float) -> str:
    """Two decimals and a true minus sign; a dash for NaN and infinity."""
    return f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
