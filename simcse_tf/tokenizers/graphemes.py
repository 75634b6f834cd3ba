"""Where one grapheme cluster ends and the next begins, as TensorFlow operations.

The rules are those of Unicode's text segmentation (UAX 29, GB3 to GB11), with the
classes of the `tokenizers` package's version of Unicode. Pairs of regional indicators
are left out: nobody here asks for clusters of more than five bytes.
"""

import enum
import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from simcse_tf.tokenizers.paged_table import PagedTable

FILE = Path(__file__).with_name("grapheme_classes.npz")


class Class(enum.IntEnum):
    """What a code point is to the rules."""

    OTHER = 0
    CONTROL = 1
    CR = 2
    LF = 3
    EXTEND = 4
    LINKING_EXTEND = 5  # an extend that does not part linked consonants
    LINKER = 6  # an extend that links Indic consonants
    JOINER = 7
    SPACING_MARK = 8
    PREPEND = 9
    HANGUL_L = 10
    HANGUL_V = 11
    HANGUL_T = 12
    HANGUL_LV = 13
    HANGUL_LVT = 14
    PICTOGRAPH = 15
    CONSONANT = 16


_BREAKING = (Class.CONTROL, Class.CR, Class.LF)
_EXTENDS = (Class.EXTEND, Class.LINKING_EXTEND, Class.LINKER)
_LINKS = (Class.LINKING_EXTEND, Class.LINKER, Class.JOINER)
_AFTER = {
    Class.HANGUL_L: (
        Class.HANGUL_L,
        Class.HANGUL_V,
        Class.HANGUL_LV,
        Class.HANGUL_LVT,
    ),
    Class.HANGUL_LV: (Class.HANGUL_V, Class.HANGUL_T),
    Class.HANGUL_V: (Class.HANGUL_V, Class.HANGUL_T),
    Class.HANGUL_LVT: (Class.HANGUL_T,),
    Class.HANGUL_T: (Class.HANGUL_T,),
}


class GraphemeClusters:
    """Finds the code points that belong to the same cluster as the one before.

    Example:

    ```python
    points = tf.constant([ord("e"), 0x0301, ord("\\r"), ord("\\n")])
    first = tf.constant([True, False, False, False])
    clusters = GraphemeClusters()
    clusters.joined(clusters.classes(points), first)  # [False, True, False, True]
    ```
    """

    def __init__(self) -> None:
        self.classes = PagedTable(_class_table())

    def joined_pairs(self, classes: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Applies the rules that look at two neighbours alone.

        Args:
            classes: int32 tensor of shape `[n]`. The class of each code point.
            first: bool tensor of shape `[n]`. Whether a text begins here.

        Returns:
            bool tensor of shape `[n]`. Whether no cluster begins here.
        """
        previous = tf.roll(classes, 1, axis=0)
        joins = tf.gather(tf.constant(_joins()), previous * len(Class) + classes)
        return joins & ~first

    def joined(self, classes: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Applies all the rules.

        Args:
            classes: int32 tensor of shape `[n]`. The class of each code point.
            first: bool tensor of shape `[n]`. Whether a text begins here.

        Returns:
            bool tensor of shape `[n]`. Whether no cluster begins here.
        """
        text = tf.cumsum(tf.cast(first, tf.int32))
        previous = tf.roll(classes, 1, axis=0)

        # A pictograph behind a joiner behind a pictograph and its extends.
        base = tf.roll(_last(~_any_of(classes, _EXTENDS)), 2, axis=0)
        pictographs = (
            (classes == Class.PICTOGRAPH)
            & (previous == Class.JOINER)
            & (tf.gather(classes, base) == Class.PICTOGRAPH)
            & (tf.gather(text, base) == text)
            & (base < tf.range(tf.size(classes)))
        )
        # A consonant behind a consonant with a linker between them.
        base = tf.roll(_last(~_any_of(classes, _LINKS)), 1, axis=0)
        linkers = tf.cumsum(tf.cast(classes == Class.LINKER, tf.int32), exclusive=True)
        consonants = (
            (classes == Class.CONSONANT)
            & (tf.gather(classes, base) == Class.CONSONANT)
            & (linkers > tf.gather(linkers, base))
            & (tf.gather(text, base) == text)
        )
        joins = (pictographs | consonants) & ~first
        return self.joined_pairs(classes, first) | joins


@functools.cache
def _class_table() -> np.ndarray:
    with np.load(FILE) as arrays:
        return arrays["classes"].astype(np.int32)


@functools.cache
def _joins() -> np.ndarray:
    """For each class before and each class behind, whether they stay together."""
    joins = np.zeros((len(Class), len(Class)), bool)
    joins[:, [*_EXTENDS, Class.JOINER, Class.SPACING_MARK]] = True
    joins[Class.PREPEND] = True
    for before, behind in _AFTER.items():
        joins[before, list(behind)] = True
    joins[list(_BREAKING)] = False
    joins[:, list(_BREAKING)] = False
    joins[Class.CR, Class.LF] = True
    return joins.reshape(-1)


def _any_of(classes: tf.Tensor, members: tuple[Class, ...]) -> tf.Tensor:
    table = np.isin(np.arange(len(Class)), members)
    return tf.gather(tf.constant(table), classes)


def _last(flags: tf.Tensor) -> tf.Tensor:
    """The place of the last flag up to each place; 0 if there is none."""
    places = tf.concat([[0], tf.cast(tf.where(flags)[:, 0], tf.int32)], axis=0)
    return tf.gather(places, tf.cumsum(tf.cast(flags, tf.int32)))
