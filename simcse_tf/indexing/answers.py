"""What was found, for a terminal and for programs."""

from __future__ import annotations

from collections.abc import Iterator

from simcse_tf.core.json_files import to_json
from simcse_tf.core.printing import one_line
from simcse_tf.indexing.index import Hit


def as_text(query: str, hits: list[Hit]) -> Iterator[str]:
    r"""Lines for a terminal, in which nothing can command it.

    Args:
        query: string.
        hits: What was found for it.

    Yields:
        The query, and for each hit its cosine, id, text and metadata.

    Example:

    ```python
    print(*as_text("who plays?", hits), sep="\n")
    # who plays?
    #   0.8123  7  A man plays a guitar.  {"stars": 5}
    ```
    """
    yield one_line(query)
    for hit in hits:
        about = {name: x for name, x in hit.metadata.items() if x is not None}
        cells = [hit.id, hit.text, to_json(about) if about else ""]
        shown = "  ".join(one_line(cell) for cell in cells)
        yield f"  {hit.cosine:.4f}  {shown}".rstrip()


def as_json(query: str, hits: list[Hit]) -> Iterator[str]:
    """One line for programs, as the client and the page have it as well.

    Args:
        query: string.
        hits: What was found for it.

    Yields:
        `{"query": ..., "hits": [{"id", "text", "cosine", "metadata"}, ...]}`.

    Example:

    ```python
    json.loads(next(as_json("who plays?", hits)))["hits"][0]["id"]  # "7"
    ```
    """
    rows = [hit._asdict() for hit in hits]
    for row in rows:
        del row["row"]
    yield to_json({"query": query, "hits": rows})
