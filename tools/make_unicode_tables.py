"""Makes simcse_tf/tokenizers/unicode_tables.npz from the `tokenizers` package.

The reference takes its categories, its decompositions and its lower case from three
versions of Unicode, none of them Python's. So every code point is given to the
reference itself, and what comes out is written down:

- `BertNormalizer`, with one of its steps at a time, shows what is removed, what becomes
  a space, what is a Chinese character, what is an accent, and the lower case;
- `NFD` shows the decompositions;
- `BertPreTokenizer` shows the punctuation.

A combining class cannot be asked for, but `NFD` sorts marks by it. One mark of each
class serves as the scale. The scale comes from Unicode 3.2, which every Python holds,
and a mark never changes its class. A mark that `NFD` leaves where it is, before and
after a mark of the scale, has the same class. A mark whose class the scale lacks is an
error.

Run it as `make unicode-tables` when the `tokenizers` package has a new Unicode version.
"""

import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
from tokenizers import normalizers, pre_tokenizers

from simcse_tf.tokenizers.unicode_tables import (
    BARRIER,
    CODE_POINT_MASK,
    COMBINING_SHIFT,
    FILE,
    ITSELF,
    PAGE_SIZE,
    SETTINGS,
    WORD_BREAK,
    CodePointTable,
    array_name,
)

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
SPACE = 0x20
# Stands between the characters of a block. No step of normalization changes it.
_SEPARATOR = "|"
_BLOCK = 4096

# The one class that has come into use after Unicode 3.2 and that the reference knows.
_NEWER_CLASSES = {214: "\u1dce"}

_decompose = normalizers.NFD().normalize_str
_pre_tokenize = pre_tokenizers.BertPreTokenizer().pre_tokenize_str


def _normalizer(
    clean_text: bool = False,
    handle_chinese_chars: bool = False,
    strip_accents: bool = False,
    lowercase: bool = False,
) -> Callable[[str], str]:
    return normalizers.BertNormalizer(
        clean_text=clean_text,
        handle_chinese_chars=handle_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    ).normalize_str


class Reference:
    """What the `tokenizers` package does with every code point.

    Attributes:
        cleaned: dict. The code points that `clean_text` changes, and the result: a
            space, or nothing.
        chinese: dict. The code points that get spaces around them.
        decompositions: dict. The code points that decompose, and their parts.
        lower: dict. The code points that lower-casing changes, and the result.
        accents: set of int. The code points, themselves without a decomposition, that
            `strip_accents` removes.
        punctuation: set of int. The code points that are words of their own.
        classes: dict. The combining classes that are not 0.
    """

    def __init__(self) -> None:
        self.cleaned = _changes(_normalizer(clean_text=True))
        # Surrogates stand in no string; they would be removed like other controls.
        self.cleaned |= dict.fromkeys(SURROGATES, "")
        self.chinese = _changes(_normalizer(handle_chinese_chars=True))
        self.decompositions = _changes(_decompose)
        self.lower = _changes(_normalizer(lowercase=True))
        stripped = _changes(_normalizer(strip_accents=True))
        self.accents = stripped.keys() - self.decompositions.keys()
        self.punctuation = {point for point in _points() if _is_punctuation(point)}
        self.classes = _combining_classes(self.decompositions)


def _points() -> list[int]:
    return [point for point in range(CODE_POINTS) if point not in SURROGATES]


def _changes(normalize: Callable[[str], str]) -> dict[int, str]:
    """The code points that a normalizer changes, and into what."""
    points = [point for point in _points() if chr(point) != _SEPARATOR]
    changes = {}
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        results = normalize(_SEPARATOR.join(map(chr, block))).split(_SEPARATOR)
        for point, result in zip(block, results, strict=True):
            if result != chr(point):
                changes[point] = result
    return changes


def _is_punctuation(point: int) -> bool:
    words = [word for word, _ in _pre_tokenize(f"a{chr(point)}b")]
    return words == ["a", chr(point), "b"]


def _moves(first: str, second: str) -> bool:
    return _decompose(first + second) != first + second


def _combining_classes(decompositions: dict[int, str]) -> dict[int, int]:
    scale = dict(_NEWER_CLASSES)
    for point in _points():
        combining = unicodedata.ucd_3_2_0.combining(chr(point))
        if combining and point not in decompositions:
            scale.setdefault(combining, chr(point))
    lowest, highest = scale[min(scale)], scale[max(scale)]
    classes = {}
    for point in _points():
        mark = chr(point)
        if point in decompositions or not (
            _moves(mark, lowest) or _moves(highest, mark)
        ):
            continue
        classes[point] = _class_of(mark, scale)
    return classes


def _class_of(mark: str, scale: dict[int, str]) -> int:
    for combining, other in scale.items():
        if not _moves(mark, other) and not _moves(other, mark):
            return combining
    raise LookupError(f"no mark of the scale has the class of U+{ord(mark):04X}")


def _codes_of_part(reference: Reference, part: int, lowercase: bool) -> list[int]:
    letters = reference.lower.get(part, chr(part)) if lowercase else chr(part)
    codes = [ord(letter) for letter in letters]
    return [WORD_BREAK, *codes, WORD_BREAK] if part in reference.punctuation else codes


def _codes_without_accents(
    reference: Reference, point: int, lowercase: bool
) -> list[int]:
    codes = []
    for part in map(ord, reference.decompositions.get(point, chr(point))):
        combining = reference.classes.get(part, 0)
        if part not in reference.accents:
            flags = combining << COMBINING_SHIFT
            part_codes = _codes_of_part(reference, part, lowercase)
            codes += [code | flags for code in part_codes]
        elif combining == 0:
            codes.append(BARRIER)
    return codes


def _codes(
    reference: Reference, point: int, lowercase: bool, strip_accents: bool
) -> list[int]:
    if point in reference.cleaned:
        return [ord(letter) for letter in reference.cleaned[point]]
    if point == SPACE:
        return [SPACE]
    part_codes = _codes_without_accents if strip_accents else _codes_of_part
    codes = part_codes(reference, point, lowercase)
    return [SPACE, *codes, SPACE] if point in reference.chinese else codes


def _row(
    reference: Reference, point: int, lowercase: bool, strip_accents: bool
) -> tuple[int, ...]:
    codes = _codes(reference, point, lowercase, strip_accents)
    return tuple(
        code - point + ITSELF if code & CODE_POINT_MASK == point else code
        for code in codes
    )


def make_table(
    reference: Reference, lowercase: bool, strip_accents: bool
) -> CodePointTable:
    """Makes the table for one setting of BERT's normalizer.

    Args:
        reference: `Reference`. What the `tokenizers` package does.
        lowercase: bool. Whether the text is lower-cased.
        strip_accents: bool. Whether accents are removed.

    Returns:
        `CodePointTable`.
    """
    numbers: dict[tuple[int, ...], int] = {(ITSELF,): 0}
    rows = np.zeros(CODE_POINTS, np.int32)
    for point in range(CODE_POINTS):
        row = _row(reference, point, lowercase, strip_accents)
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


def make_arrays() -> dict[str, Any]:
    """Makes the arrays of all settings, under the names that they have in the file.

    Returns:
        dict of string to array.
    """
    reference = Reference()
    return {
        array_name(field, *setting): array
        for setting in SETTINGS
        for field, array in make_table(reference, *setting)._asdict().items()
    }


def main() -> None:
    """Writes the file."""
    np.savez_compressed(FILE, **make_arrays())
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
