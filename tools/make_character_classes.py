"""Makes simcse_tf/tokenizers/character_classes.npz from the `tokenizers` package.

The reference splits a text by the regular expression of byte-level BPE. Neighbouring
code points are given to it together, between two signs, two letters or two numbers: if
all of it stays one word, they are all of that class. If not, each half is asked for
alone. A code point that stays together with none of them is white space.

Run it as `make unicode-tables` when the `tokenizers` package has a new Unicode version.
"""

from typing import Any

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
_NEIGHBOURS = {OTHER: "!", LETTER: "a", NUMBER: "1"}
# So many code points are asked for at first.
_BLOCK = 256

_split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str


def _classes(points: range) -> list[int]:
    # Surrogates stand in no string.
    text = "".join(chr(point) for point in points if point not in SURROGATES)
    for character_class, neighbour in _NEIGHBOURS.items():
        if len(_split(neighbour + text + neighbour)) == 1:
            return [character_class] * len(points)
    if len(points) == 1:
        return [SPACE]
    half = len(points) // 2
    return _classes(points[:half]) + _classes(points[half:])


def make_arrays() -> dict[str, Any]:
    """Makes the arrays of the file.

    Returns:
        dict: `classes`, an int8 array, and `lengths`, an int32 array: so many code
        points one after the other have that class.
    """
    classes = [
        character_class
        for start in range(0, CODE_POINTS, _BLOCK)
        for character_class in _classes(range(start, start + _BLOCK))
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
