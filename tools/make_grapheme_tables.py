"""Makes simcse_tf/tokenizers/grapheme_classes.npz from the `tokenizers` package.

`Precompiled` splits a text into grapheme clusters by a version of Unicode of its own,
and shows it: a normalizer in which every byte is a key with the replacement "A" makes
one "A" of a cluster of at most five bytes, and one of each code point of a longer one.
So every code point is put beside others that tell its class by the number of "A".

Run it as `make unicode-tables` when the `tokenizers` package has a new Unicode version.
"""

import struct
from collections.abc import Callable

import numpy as np
from tokenizers import normalizers

from simcse_tf.tokenizers.graphemes import FILE, Class

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)

_MARK = "\u0300"  # an Extend of two bytes
_JOINER = "\u200d"
_SIGN = "\u00a9"  # an Extended_Pictographic of two bytes
_KA = "\u0915"  # an Indic consonant
_VIRAMA = "\u094d"  # a linker of consonants
_L, _V, _T = "\u1100", "\u1161", "\u11a8"  # Hangul


def _all_bytes_charsmap() -> bytes:
    """A trie with a key for each single byte, and one replacement for all of them."""
    units = [0] * 768
    units[0] = 256 << 10
    for byte in range(1, 256):
        place = 256 ^ byte
        units[place] = byte | 1 << 8 | (place ^ 512) << 10
    units[512] = 1 << 31
    return struct.pack("<I768I", 4 * 768, *units) + b"A\0"


_normalize = normalizers.Precompiled(_all_bytes_charsmap()).normalize_str
_CHARACTERS = [chr(c) for c in range(1, CODE_POINTS) if c not in SURROGATES]


def _that_give(count: int, text: Callable[[str], str]) -> set[str]:
    """The characters for which a text counts as so many."""
    return {c for c in _CHARACTERS if len(_normalize(text(c))) == count}


def grapheme_classes() -> np.ndarray:
    """Asks the reference for the class of every code point.

    Returns:
        uint8 array of shape `[0x110000]`, of `Class`.

    Example:

    ```python
    grapheme_classes()[0x0300] == Class.LINKING_EXTEND
    ```
    """
    prepends = _that_give(1, lambda c: c + "a")
    attached = _that_give(1, lambda c: "a" + c)
    controls = _that_give(2, lambda c: c + _MARK + _MARK)
    pictographs = _that_give(5, lambda c: c + _MARK + _JOINER + _SIGN + _MARK)
    extend = attached & _that_give(5, lambda c: "\U0001f469" + c + _JOINER + _SIGN + _MARK)
    linkers = attached & _that_give(4, lambda c: _KA + c + _KA + _MARK)
    links = attached & _that_give(5, lambda c: _KA + _VIRAMA + c + _KA + _MARK)
    consonants = _that_give(4, lambda c: c + _VIRAMA + _KA + _MARK)
    before_v = _that_give(3, lambda c: c + _V + _MARK) - prepends
    before_t = _that_give(3, lambda c: c + _T + _MARK) - prepends
    after_v = _that_give(3, lambda c: _V + c + _MARK)
    # Of two classes that a code point would belong to, the later counts.
    classes = {
        Class.SPACING_MARK: attached,
        Class.EXTEND: extend,
        Class.LINKING_EXTEND: links,
        Class.LINKER: linkers,
        Class.JOINER: {_JOINER},
        Class.PREPEND: prepends,
        Class.PICTOGRAPH: pictographs,
        Class.CONSONANT: consonants,
        Class.HANGUL_L: before_v - before_t,
        Class.HANGUL_V: before_v & before_t & after_v,
        Class.HANGUL_T: (before_t - before_v) & after_v,
        Class.HANGUL_LV: before_v & before_t - after_v,
        Class.HANGUL_LVT: before_t - before_v - after_v,
        Class.CONTROL: controls | {"\0"},
        Class.CR: {"\r"},
        Class.LF: {"\n"},
    }
    table = np.zeros(CODE_POINTS, np.uint8)
    for name, characters in classes.items():
        table[[ord(c) for c in characters]] = name
    return table


def main() -> None:
    """Writes the table."""
    np.savez_compressed(FILE, classes=grapheme_classes())


if __name__ == "__main__":
    main()
