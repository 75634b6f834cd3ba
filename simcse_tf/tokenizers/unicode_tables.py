"""What BERT's normalization turns each Unicode code point into, as one table.

The `tokenizers` package, whose output is the reference, takes categories from
Unicode 8, decompositions from Unicode 9 and lower case from Unicode 17, while
the tables of Python, of RE2 and of the two ICUs inside TensorFlow each have a
version of their own. The table is built from Python's, and the constants below
bring those back (or forward) to the reference, on every supported Python.
"""

import functools
import unicodedata
from typing import NamedTuple

import numpy as np

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
_CODE_POINTS = 0x110000


class CodePointTable(NamedTuple):
    """Code point -> page -> row -> codes; equal pages and rows are stored once."""

    pages: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    row_splits: np.ndarray


def _expand(ranges: str) -> set[int]:
    bounds = [[int(end, 16) for end in item.split("-")] for item in ranges.split()]
    return {point for pair in bounds for point in range(pair[0], pair[-1] + 1)}


# Control and format characters, marks and punctuation that Unicode added after
# version 8 (or moved there): plain characters to the reference. Ranges run over
# unassigned and ordinary code points where that makes them fewer.
_WITHOUT_CATEGORY = _expand(
    "61D 7FD 890-8E2 9FD-9FE A76 AFA-AFF B55 C04-C3C C77 C84 D00 D3B-D3C D81 EBA ECE "
    "180F-1886 1ABF-1AEB 1B4E-1B4F 1B7D-1B7F 1DF6-1DFB 2E43-2E5D A82C A8C5 A8FF A9BD "
    "10D24-10F89 11070-11074 110C2-110CD 111CF 1123E-11241 1133B 113BB-1145E "
    "11660-1166C 116B9 1182F-11FFF 12FF1-1612F 16D6D-16F4F 16FE2-16FE4 1CF00-1CF46 "
    "1E000-1E6F5 1E944-1E95F"
)
# Categories that changed after version 8.
_FORMER_CATEGORY = {0x166D: "Po", 0x1734: "Mn", 0x111C9: "Po", 0x1171E: "Mn"}

# Decompositions and combining classes that Unicode added after version 9.
_WITHOUT_DECOMPOSITION = _expand(
    "7FD 897-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1AEB 1DF6-1DFA A82C 105C9-105E4 "
    "10D24-10F85 11070 1133B 11383-113D0 1145E 11839-11A99 11D42-1612F 16D68-16FF1 "
    "1E08F-1E6F5"
)

# Capitals newer than the oldest supported Python: (capitals, distance to lower case).
_NEW_CAPITALS = (
    ("1C89 A7C0 A7CC A7CE A7D0 A7D2 A7D4 A7D6 A7D8 A7DA", 1),
    ("2C2F", 0x2C5F - 0x2C2F),
    ("A7CB", 0x264 - 0xA7CB),
    ("A7DC", 0x19B - 0xA7DC),
    ("10570-1057A 1057C-1058A 1058C-10592 10594-10595", 0x27),
    ("10D50-10D65", 0x20),
    ("16EA0-16EB8", 0x1B),
)
_LOWER = {
    capital: chr(capital + distance)
    for ranges, distance in _NEW_CAPITALS
    for capital in _expand(ranges)
}

# The reference's own set, narrower than the Unicode blocks (2B820-2B91F and the
# extensions F and later are missing from it).
_CHINESE = _expand(
    "3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B81F 2B920-2CEAF 2F800-2FA1F"
)

# All other code points stand for themselves: looking at these alone saves a second.
_EXAMINED = _expand("0-2FA1F E0000-E0FFF F0000-10FFFF")


def _category(point: int) -> str:
    if point in _WITHOUT_CATEGORY:
        return "Cn"
    return _FORMER_CATEGORY.get(point) or unicodedata.category(chr(point))


def _is_removed(point: int) -> bool:
    if point in (0x9, 0xA, 0xD):
        return False
    return point == 0xFFFD or _category(point) in ("Cc", "Cf", "Co", "Cs")


def _is_punctuation(point: int) -> bool:
    return chr(point) in "$+<=>^`|~" or _category(point).startswith("P")


def _decompose(point: int) -> str:
    if point in _WITHOUT_DECOMPOSITION:
        return chr(point)
    return unicodedata.normalize("NFD", chr(point))


def _combining_class(point: int) -> int:
    if point in _WITHOUT_DECOMPOSITION:
        return 0
    return unicodedata.combining(chr(point))


def _lower(point: int) -> str:
    return _LOWER.get(point) or chr(point).lower()


def _codes_of_part(part: int, lowercase: bool) -> list[int]:
    codes = [ord(letter) for letter in _lower(part)] if lowercase else [part]
    return [WORD_BREAK, *codes, WORD_BREAK] if _is_punctuation(part) else codes


def _codes_without_accents(point: int, lowercase: bool) -> list[int]:
    codes = []
    for part in map(ord, _decompose(point)):
        combining = _combining_class(part)
        if _category(part) != "Mn":
            flags = combining << COMBINING_SHIFT
            codes += [code | flags for code in _codes_of_part(part, lowercase)]
        elif combining == 0:
            codes.append(BARRIER)
    return codes


def _codes(point: int, lowercase: bool, strip_accents: bool) -> list[int]:
    if _is_removed(point):
        return []
    if chr(point).isspace():
        return [_SPACE]
    part_codes = _codes_without_accents if strip_accents else _codes_of_part
    codes = part_codes(point, lowercase)
    return [_SPACE, *codes, _SPACE] if point in _CHINESE else codes


def _row(point: int, lowercase: bool, strip_accents: bool) -> tuple[int, ...]:
    codes = _codes(point, lowercase, strip_accents)
    return tuple(
        code - point + ITSELF if code & CODE_POINT_MASK == point else code
        for code in codes
    )


@functools.cache
def code_point_table(lowercase: bool, strip_accents: bool) -> CodePointTable:
    """The table for one setting of BERT's normalizer."""
    numbers: dict[tuple[int, ...], int] = {(ITSELF,): 0}
    rows = np.zeros(_CODE_POINTS, np.int32)
    for point in _EXAMINED:
        row = _row(point, lowercase, strip_accents)
        rows[point] = numbers.setdefault(row, len(numbers))
    numbers_of_pages: dict[bytes, int] = {}
    pages = [
        numbers_of_pages.setdefault(page.tobytes(), len(numbers_of_pages))
        for page in rows.reshape(-1, PAGE_SIZE)
    ]
    return CodePointTable(
        pages=np.array(pages, np.int32),
        rows=np.frombuffer(b"".join(numbers_of_pages), np.int32),
        codes=np.array([code for codes in numbers for code in codes], np.int32),
        row_splits=np.cumsum([0, *map(len, numbers)], dtype=np.int64),
    )
