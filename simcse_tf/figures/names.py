"""Names that users chose, made to fit where a figure has room for them."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_ELLIPSIS = "…"
_BREAKS = " /,;_-"
# More characters fit nowhere, and measuring them takes time.
_LONGEST = 300


def labels(
    names: Sequence[str], points: float, size: float, lines: int = 1
) -> list[str]:
    """Each name as text that fits, no two the same.

    A name that does not fit loses its middle, since paths and settings differ at
    their ends.

    Args:
        names: Any strings.
        points: float. The available width.
        size: float. Font size.
        lines: int. Lines a name may take. Defaults to `1`.

    Returns:
        A string for each name, with line breaks where `lines` allows.

    Example:

    ```python
    labels(["runs/a-very-long-name/best", "b"], points=60, size=8)
    ```
    """
    clean = [_clean(name) for name in names]
    texts = [_wrap(name, points, size, lines) for name in clean]
    counts = Counter(texts)
    return [
        text if counts[text] == 1 else _wrap(f"{i}. {name}", points, size, lines)
        for i, (name, text) in enumerate(zip(clean, texts, strict=True), start=1)
    ]


def label(name: str, points: float, size: float, lines: int = 1) -> str:
    """`labels` of one name.

    Example:

    ```python
    label("runs/a-very-long-name/best", points=60, size=8)
    ```
    """
    return labels([name], points, size, lines)[0]


def text_width(text: str, size: float) -> float:
    """The width of a text in points, in the figures' font.

    Example:

    ```python
    text_width("Average", size=8)
    ```
    """
    font = FontProperties(size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _clean(name: str) -> str:
    visible = "".join(c if c.isprintable() else " " for c in name)
    return _without_middle(" ".join(visible.split()), _LONGEST) or "–"


def _wrap(text: str, points: float, size: float, lines: int) -> str:
    wrapped: list[str] = []
    while len(wrapped) < lines - 1 and text_width(text, size) > points:
        cut = _most(text, _head, points, size)
        soft = 1 + max(text.rfind(c, cut // 2, cut) for c in _BREAKS)
        cut = soft or cut
        wrapped.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    if text_width(text, size) > points:
        text = _without_middle(text, _most(text, _without_middle, points, size))
    return "\n".join([*wrapped, text])


def _head(text: str, length: int) -> str:
    return text[:length]


def _without_middle(text: str, length: int) -> str:
    """At most `length` characters, one of them an ellipsis in the middle."""
    if len(text) <= length:
        return text
    head = length // 2
    tail = length - head - 1
    return text[:head] + _ELLIPSIS + text[len(text) - tail :]


def _most(
    text: str, shorten: Callable[[str, int], str], points: float, size: float
) -> int:
    """The most characters, one at least, that fit when shortened to so many."""
    lengths = range(1, len(text) + 1)
    fitting = bisect_right(
        lengths, points, key=lambda n: text_width(shorten(text, n), size)
    )
    return max(1, fitting)
