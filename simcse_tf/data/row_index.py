"""Where a file's rows stand, and what is known of them all after one pass."""

from array import array
from typing import NamedTuple

import numpy as np

from simcse_tf.core.text_lines import LocatedLines
from simcse_tf.data.columns import Layouts
from simcse_tf.data.examples import Example
from simcse_tf.data.file_formats import FileFormat


class Longest(NamedTuple):
    """The longest row.

    Attributes:
        characters: int. The length of its texts.
        first: int. Its first line, counted from 1.
        last: int. Its last line.

    Example:

    ```python
    Longest(characters=311, first=12, last=12)
    ```
    """

    characters: int = 0
    first: int = 0
    last: int = 0


class RowIndex(NamedTuple):
    """Where a file's rows stand, and what one pass over them told.

    Attributes:
        starts: int64 array of shape `(n,)`. The rows' first bytes.
        ends: int64 array of shape `(n,)`. The bytes behind them.
        hashes: int64 array of shape `(n, texts)`. Of the texts that every row has;
            equal for equal texts, and of this process alone.
        labels: int8 array of shape `(n,)`. The labels of NLI, -1 where there is none;
            empty for other data.
        negatives: int. The most hard negatives of a row.
        skipped: int. Rows left out because a text or the score is blank.
        longest: The longest row.

    Example:

    ```python
    len(index_rows(file_format(".csv"), LocatedLines("pairs.csv")).starts)  # 1000
    ```
    """

    starts: np.ndarray
    ends: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray
    negatives: int
    skipped: int
    longest: Longest


def index_rows(form: FileFormat, lines: LocatedLines) -> RowIndex:
    """Reads a file through.

    Args:
        form: The file's format.
        lines: The file's lines.

    Raises:
        UserError: If a line is malformed.

    Example:

    ```python
    index_rows(file_format(".csv"), LocatedLines("pairs.csv")).skipped  # 0
    ```
    """
    starts, ends, hashes, labels = array("q"), array("q"), array("q"), array("b")
    skipped, negatives, longest = 0, 0, Longest()
    for start, end, first_line, example, _ in form.scan(lines):
        if example is None or _is_blank(example, form.layouts):
            skipped += 1
            continue
        starts.append(start)
        ends.append(end)
        hashes.extend(map(hash, example.texts))
        negatives = max(negatives, len(example.negatives))
        if form.layouts.labelled:
            labels.append(example.label)
        characters = len("".join(example.texts + example.negatives))
        if characters > longest.characters:
            longest = Longest(characters, first_line, lines.number)
    return RowIndex(
        np.asarray(starts),
        np.asarray(ends),
        np.asarray(hashes).reshape(-1, form.layouts.texts),
        np.asarray(labels),
        negatives,
        skipped,
        longest,
    )


def _is_blank(example: Example, layouts: Layouts) -> bool:
    if not all(map(str.strip, example.texts)):
        return True
    return layouts.scored and not example.score
