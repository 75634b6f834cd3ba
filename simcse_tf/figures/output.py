"""Figures as files and as text, the same bytes for the same figure."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from simcse_tf.core.atomic import atomic_write
from simcse_tf.figures.style import settings

# Without date and version, the figure alone decides the bytes.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Writes a figure as PNG, 300 dots an inch, and as SVG, each whole or not at all.

    Args:
        figure: One of this package's figures.
        path: Where, without a suffix; parents are made.

    Returns:
        The two files' paths.

    Raises:
        OSError: If one cannot be written.

    Example:

    ```python
    save(sts_scores({"mine": {"avg": 81.6}}), "plots/scores")
    ```
    """
    path = Path(path)
    written = []
    for kind in _METADATA:
        # Not `with_suffix`: a name may hold a point, as "dropout=0.1" does.
        final = path.with_name(f"{path.name}.{kind}")
        with atomic_write(final) as temporary, settings():
            figure.savefig(temporary, format=kind, metadata=_METADATA[kind])
        written.append(final)
    return written


def to_svg(figure: Figure) -> str:
    """The figure as one `<svg>` element on a transparent ground, for a page.

    Its text is drawn as paths, so it needs no font and holds no name as markup.

    Args:
        figure: One of this package's figures.

    Example:

    ```python
    page = f"<body>{to_svg(sts_scores({'mine': {'avg': 81.6}}))}</body>"
    ```
    """
    stream = io.StringIO()
    with settings():
        figure.savefig(
            stream, format="svg", metadata=_METADATA["svg"], transparent=True
        )
    text = stream.getvalue()
    return text[text.index("<svg") :]
