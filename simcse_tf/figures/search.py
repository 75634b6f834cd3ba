"""How much of exact search approximate search finds, and how fast."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from simcse_tf.figures import style

_HEIGHT = 3.2


def recall_over_rate(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str = "recall@10",
    theme: str = "light",
) -> Figure:
    """Queries a second over recall, a curve for each way to search.

    To the right finds more, and above is faster.

    Args:
        curves: Pairs of recall, between 0 and 1, and queries a second, by name.
        label: string. What the recall is. Defaults to `"recall@10"`.
        theme: `"light"` or `"dark"`. Defaults to `"light"`.

    Raises:
        ValueError: There is no curve or no such theme.

    Example:

    ```python
    recall_over_rate({"hnsw": [(0.91, 2100), (0.98, 900)], "flat": [(1.0, 25)]})
    ```

    Reference:
        - [Aumüller, Bernhardsson and Faithfull 2018](https://arxiv.org/abs/1807.05614),
          figure 4
    """
    style.not_empty("curves", curves)
    with style.themed(theme) as colours:
        figure = style.new(_HEIGHT)
        axes = figure.add_subplot()
        handles = []
        for i, points in enumerate(curves.values()):
            looks = {**style.line(colours, i), "marker": style.marker(i)}
            recalls, rates = zip(*sorted(points), strict=True)
            axes.plot(recalls, rates, markersize=4.5, **looks)
            handles.append(Line2D([], [], markersize=4.5, **looks))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        axes.set_ylabel("queries a second")
        style.legend(figure, handles, list(curves))
        return style.finish(figure)
