"""Which code points are letters, numbers and white space.

The reference is the `tokenizers` package, whose regular expressions have a version of
Unicode of their own. tools/make_character_classes.py asks it for every code point and
writes the answers to character_classes.npz.
"""

import functools
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")

OTHER, LETTER, NUMBER, SPACE = range(4)


@functools.cache
def character_classes() -> np.ndarray:
    """Loads the class of every code point.

    Returns:
        int8 array of shape `[0x110000]`, of `OTHER`, `LETTER`, `NUMBER` and `SPACE`.

    Example:

    ```python
    character_classes()[ord("é")] == LETTER
    ```
    """
    with np.load(FILE) as runs:
        return np.repeat(runs["classes"], runs["lengths"])
