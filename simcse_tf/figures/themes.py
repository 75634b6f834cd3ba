"""The colours of the figures: a light and a dark theme."""

from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap


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
