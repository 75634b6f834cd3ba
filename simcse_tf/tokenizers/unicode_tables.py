"""What BERT's normalization turns each Unicode code point into, as one table.

The reference is the `tokenizers` package, which takes its categories, decompositions
and lower case from versions of Unicode of its own. tools/make_unicode_tables.py asks it
for every code point and writes the answers to unicode_tables.npz, so that the tables
depend on no version of Python, RE2 or ICU.
"""

import enum
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILE = Path(__file__).with_suffix(".npz")

# A code is a code point plus its combining class above it.
CODE_POINT_MASK = (1 << 21) - 1
COMBINING_SHIFT = 21

# Values that stand where a code point would. Control characters are free for it,
# since normalization removes them.
ITSELF = CODE_POINT_MASK  # the input; it lets most of Unicode share one row
BARRIER = 0  # nothing, but no mark moves across it
WORD_BREAK = 1  # nothing, but a word ends here

PAGE_SIZE = 256

_SPACE = 0x20

# Lower-casing and accent stripping, on or off.
SETTINGS = ((True, True), (True, False), (False, True), (False, False))


class CodePointTable(NamedTuple):
    """Code point -> page -> row -> codes; equal pages and rows are stored once.

    Attributes:
        pages: int32 array of shape `[0x110000 / PAGE_SIZE]`. The page of each block of
            `PAGE_SIZE` code points.
        rows: int32 array of shape `[pages * PAGE_SIZE]`. The row of each code point
            of each page.
        codes: int32 array. The codes of all rows, one row after the other.
        row_splits: int64 array of shape `[rows + 1]`. Where each row begins.
    """

    pages: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    row_splits: np.ndarray


class Kind(enum.IntEnum):
    """What a code point is to the words of a text."""

    NOTHING = 0  # leaves no trace
    BARRIER = 1  # no mark moves across it
    INSIDE = 2  # at least one character of a word
    END = 3  # a word ends behind it at the latest, and nothing moves across that


@functools.cache
def code_point_table(
    lowercase: bool, strip_accents: bool, handle_chinese_chars: bool = True
) -> CodePointTable:
    """Loads the table for one setting of BERT's normalizer.

    Args:
        lowercase: bool. Whether the text is lower-cased.
        strip_accents: bool. Whether accents are removed.
        handle_chinese_chars: bool. Whether Chinese characters get spaces around them.
            Defaults to `True`.

    Returns:
        `CodePointTable`.

    Example:

    ```python
    table = code_point_table(lowercase=True, strip_accents=True)
    page = table.pages[ord("É") // PAGE_SIZE]
    row = table.rows[page * PAGE_SIZE + ord("É") % PAGE_SIZE]
    table.codes[table.row_splits[row] : table.row_splits[row + 1]]  # [ord("e")]
    ```
    """
    with np.load(FILE) as arrays:
        table = CodePointTable(
            *(
                arrays[array_name(field, lowercase, strip_accents)]
                for field in CodePointTable._fields
            )
        )
    return table if handle_chinese_chars else _without_spaces_around(table)


@functools.cache
def kinds(
    lowercase: bool, strip_accents: bool, handle_chinese_chars: bool = True
) -> np.ndarray:
    """What each code point is to the words of a text.

    Args:
        lowercase: bool. As for `code_point_table`, and so are the others.
        strip_accents: bool.
        handle_chinese_chars: bool.

    Returns:
        int8 array of shape `[0x110000]`, of `Kind`.

    Example:

    ```python
    kinds(lowercase=True, strip_accents=True)[ord("!")] == Kind.END
    ```
    """
    table = code_point_table(lowercase, strip_accents, handle_chinese_chars)
    codes = table.codes & CODE_POINT_MASK
    begins, ends = table.row_splits[:-1], table.row_splits[1:]
    written = np.concatenate([[0], np.cumsum(codes != BARRIER)])
    is_end = np.isin(codes[ends - 1], (_SPACE, WORD_BREAK))
    of_row = np.full(len(begins), Kind.INSIDE, np.int8)
    of_row[is_end] = Kind.END
    of_row[written[begins] == written[ends]] = Kind.BARRIER
    of_row[begins == ends] = Kind.NOTHING

    pages = table.rows.reshape(-1, PAGE_SIZE)[table.pages]
    of_point = of_row[pages.reshape(-1)]
    # Its row says only that it stays as it is.
    of_point[_SPACE] = Kind.END
    return of_point


def _without_spaces_around(table: CodePointTable) -> CodePointTable:
    """The table in which Chinese characters are letters like all others."""
    begins, ends = table.row_splits[:-1], table.row_splits[1:]
    # White space is one space. More codes than one begin with it around a Chinese
    # character alone.
    chinese = (ends - begins > 1) & (table.codes[begins - (begins == ends)] == _SPACE)
    kept = np.ones(table.codes.size, bool)
    kept[begins[chinese]] = kept[ends[chinese] - 1] = False
    row_splits = np.concatenate([[0], np.cumsum(kept)])[table.row_splits]
    return table._replace(codes=table.codes[kept], row_splits=row_splits)


def array_name(field: str, lowercase: bool, strip_accents: bool) -> str:
    """The name in the file of one array of one setting's table.

    Example:

    ```python
    array_name("rows", True, True)  # "uncased_without_accents_rows"
    ```
    """
    case = "uncased" if lowercase else "cased"
    accents = "without_accents" if strip_accents else "with_accents"
    return f"{case}_{accents}_{field}"
