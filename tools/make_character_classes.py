"""Makes simcse_tf/tokenizers/character_classes.npz from the `tokenizers` package.

The reference splits a text by the regular expression of byte-level BPE. Every code point
is given to it between two letters, two numbers and two signs: it is of the class of
those that it stays together with, and white space if it stands alone.

Run it as `make unicode-tables` when the `tokenizers` package has a new Unicode version.
"""

import numpy as np
from tokenizers import pre_tokenizers

from simcse_tf.tokenizers.character_classes import (
    FILE,
    LETTER,
    NUMBER,
    OTHER,
    SPACE,
)

CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
_NEIGHBOURS = {LETTER: "aa", NUMBER: "11", OTHER: "!!"}

_split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str


def _class_of(point: int) -> int:
    for character_class, (before, after) in _NEIGHBOURS.items():
        if len(_split(before + chr(point) + after)) == 1:
            return character_class
    return SPACE


def make_arrays() -> dict[str, np.ndarray]:
    """Makes the arrays of the file.

    Returns:
        dict: `classes`, an int8 array, and `lengths`, an int32 array: so many code
        points one after the other have that class.
    """
    # Surrogates stand in no string.
    classes = [
        OTHER if point in SURROGATES else _class_of(point)
        for point in range(CODE_POINTS)
    ]
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    return {
        "classes": np.array(classes, np.int8)[starts],
        "lengths": np.diff(starts, append=CODE_POINTS).astype(np.int32),
    }


def main() -> None:
    """Writes the file."""
    np.savez_compressed(FILE, **make_arrays())
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
