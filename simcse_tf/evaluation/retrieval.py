"""The sentences of a corpus nearest to a query, for one model or several.

The paper's table 7 compares the three nearest sentences of SBERT and of SimCSE. No
model is known here: any `encode(sentences)` does.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from simcse_tf.core.printing import printable
from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.text_files import words
from simcse_tf.search.exact import top_k

_NARROWEST = 40
_GAP = "  "
_MARGIN = 5


class Hit(NamedTuple):
    """A sentence that was found, and its cosine similarity with the query.

    Example:

    ```python
    Hit("A man plays the guitar.", 0.87).cosine
    ```
    """

    sentence: str
    cosine: float


class Example(NamedTuple):
    """A query and what each model found for it, the nearest first.

    Example:

    ```python
    Example("a guitar", {"mine": [Hit("A man plays the guitar.", 0.87)]})
    ```
    """

    query: str
    hits: dict[str, list[Hit]]


def examples(
    models: Mapping[str, Encoder],
    queries: Sequence[str],
    corpus: Sequence[str],
    k: int = 3,
) -> list[Example]:
    """What each model retrieves for each query, as in the paper's table 7.

    A sentence that stands in the corpus more than once counts once, and a query is
    not its own answer where the corpus holds it.

    Args:
        models: The encoder of each model by its name: it maps n strings to an array
            `(n, dim)`, and is called once. One with a method `of_role` is asked for
            those of queries and of documents.
        queries: At least one sentence.
        corpus: At least one sentence.
        k: int. Sentences for each query; fewer where the corpus has fewer. Defaults
            to `3`.

    Returns:
        An `Example` for each query, in their order.

    Raises:
        ValueError: There is no query or no corpus, `k` is below 1, or an encoder
            returned another shape.

    Example:

    ```python
    examples({"mine": encode}, ["a guitar"], ["He plays it.", "Rain fell."], k=1)
    ```
    """
    if not queries or not corpus:
        raise ValueError("retrieval needs at least one query and one sentence")
    answers = list(dict.fromkeys(corpus))
    found: list[Example] = [Example(query, {}) for query in queries]
    for name, encode in models.items():
        once = CachingEncoder(encode)
        of_queries, of_answers = once.of_role("query"), once.of_role("document")
        if of_queries is of_answers:
            once([*answers, *queries])
        # One more than asked for, since the query may be among them.
        indices, cosines = top_k(of_queries(queries), of_answers(answers), k + 1)
        for example, numbers, values in zip(found, indices, cosines, strict=True):
            hits = [
                Hit(answers[number], float(value))
                for number, value in zip(numbers, values, strict=True)
                if answers[number] != example.query
            ]
            example.hits[name] = hits[:k]
    return found


def format_text(examples: Sequence[Example], width: int | None = None) -> str:
    """Examples for a terminal, the models side by side.

    Args:
        examples: As `examples` returns them. Control characters, which could command
            the terminal, stand as escapes.
        width: Optional int. Characters a line. Defaults to the terminal's.

    Returns:
        Lines without a final newline.

    Example:

    ```python
    print(format_text(examples({"mine": encode}, queries, corpus)))
    ```
    """
    width = max(_NARROWEST, width or shutil.get_terminal_size((100, 24)).columns)
    blocks = []
    for example in examples:
        query = textwrap.wrap(
            printable(example.query),
            width,
            initial_indent="Query: ",
            subsequent_indent=" " * 7,
        )
        lines = _side_by_side(list(example.hits), width, "")
        for rank, hits in enumerate(_ranks(example), start=1):
            cells = [f"{hit.cosine:.3f} {hit.sentence}" if hit else "-" for hit in hits]
            lines += _side_by_side(cells, width, f"#{rank}", hanging=len("0.000 "))
        blocks.append("\n".join([*query, *lines]))
    return "\n\n".join(blocks)


def format_markdown(examples: Sequence[Example]) -> str:
    """Examples as Markdown: for each query a table with a column for each model.

    Args:
        examples: As `examples` returns them. What Markdown or HTML would read as
            markup is escaped, and control characters stand as escapes.

    Returns:
        Lines without a final newline.

    Example:

    ```python
    print(format_markdown(examples({"mine": encode}, queries, corpus)))
    ```
    """
    blocks = []
    for example in examples:
        names = [_escape(name) for name in example.hits]
        lines = [
            f"**Query:** {_escape(example.query)}",
            "",
            _row(["", *names]),
            _row(["---"] * (1 + len(names))),
        ]
        for rank, hits in enumerate(_ranks(example), start=1):
            cells = [
                f"{_escape(hit.sentence)} ({hit.cosine:.3f})" if hit else "-"
                for hit in hits
            ]
            lines.append(_row([f"#{rank}", *cells]))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _ranks(example: Example) -> Iterator[tuple[Hit | None, ...]]:
    return zip_longest(*example.hits.values())


def _side_by_side(
    cells: Sequence[str], width: int, label: str, hanging: int = 0
) -> list[str]:
    """Wraps each cell to a column of its own, after a margin with the label."""
    column = (width - _MARGIN - len(_GAP) * (len(cells) - 1)) // len(cells)
    wrapped = [
        textwrap.wrap(printable(cell), column, subsequent_indent=" " * hanging)
        for cell in cells
    ]
    lines = []
    for parts in zip_longest(*wrapped, fillvalue=""):
        row = _GAP.join(part.ljust(column) for part in parts)
        lines.append((label.ljust(_MARGIN) + row).rstrip())
        label = ""
    return lines


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", printable(words(text)))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
