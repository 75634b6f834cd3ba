"""The words that byte-level BPE splits a text into, as TensorFlow operations.

GPT-2 splits a text by a regular expression that looks ahead, which RE2 cannot. Here each
character knows from its neighbours whether a word begins with it.
"""

from typing import Any

import tensorflow as tf

from simcse_tf.tokenizers.character_classes import SPACE, character_classes
from simcse_tf.tokenizers.paged_table import PagedTable

_APOSTROPHE = ord("'")
_CONTRACTIONS = ("s", "t", "m", "d", "re", "ve", "ll")


class WordSplitter:
    """Splits texts into the words that byte-level BPE works on.

    A word is a contraction (`'s 't 'm 'd 're 've 'll`), or letters, or numbers, or other
    characters, with at most one space in front, or white space. White space leaves its
    last character to the word behind it; if that is no space, it is a word of its own.

    The words are those of the `tokenizers` package (`ByteLevel` with its regular
    expression), whose table of letters, numbers and white space is used.

    Example:

    ```python
    WordSplitter()(tf.constant(["That's  2!"]))
    # <tf.RaggedTensor [["That", "'s", " ", " 2", "!"]]>
    ```
    """

    def __init__(self) -> None:
        self._classes = PagedTable(character_classes())

    def __call__(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts into words.

        Args:
            text: String tensor of shape `[n]`. Bytes that are not UTF-8 count as
                U+FFFD.

        Returns:
            `tf.RaggedTensor` of strings, of shape `[n, None]`. The words of a text,
            joined, are the text.
        """
        points = tf.strings.unicode_decode(text, "UTF-8")
        characters = points.values
        begins = self._begins(characters, _is_first(points))
        starts = tf.where(begins)[:, 0]
        splits = tf.concat([starts, [tf.size(characters, tf.int64)]], axis=0)
        words = tf.RaggedTensor.from_row_splits(characters, splits, validate=False)
        return tf.RaggedTensor.from_row_splits(
            tf.strings.unicode_encode(words, "UTF-8"),
            tf.searchsorted(starts, points.row_splits, out_type=tf.int64),
            validate=False,
        )

    def _begins(self, characters: tf.Tensor, is_first: tf.Tensor) -> tf.Tensor:
        """Whether a word begins with a character, for those of all texts in a row."""
        classes = self._classes(characters)
        is_last = _ahead(is_first, 1, True)
        is_space = classes == SPACE
        follows_space = _behind(is_space, 1, False)
        before_word = ~is_last & ~_ahead(is_space, 1, True)
        begins = is_first | tf.where(
            is_space,
            ~follows_space | before_word,
            tf.where(
                follows_space,
                _behind(characters, 1, 0) != ord(" "),
                _behind(classes, 1, SPACE) != classes,
            ),
        )

        # What is behind a text's end is no letter.
        second = tf.where(is_last, 0, _ahead(characters, 1, 0))
        third = _ahead(second, 1, 0)
        # Elsewhere an apostrophe belongs to the signs before it.
        may_contract = begins & (characters == _APOSTROPHE)
        inside, behind = tf.zeros_like(begins), tf.zeros_like(begins)
        for ending in _CONTRACTIONS:
            contracts = may_contract & (second == ord(ending[0]))
            if len(ending) > 1:
                contracts &= third == ord(ending[1])
            inside |= _behind(contracts, 1, False)
            behind |= _behind(contracts, 1 + len(ending), False)
        return (begins & ~inside) | behind


def _is_first(points: tf.RaggedTensor) -> tf.Tensor:
    """Whether a character is its text's first."""
    starts = tf.boolean_mask(points.row_starts(), points.row_lengths() > 0)
    shape = tf.shape(points.values, tf.int64)
    return tf.scatter_nd(starts[:, tf.newaxis], tf.ones_like(starts, tf.bool), shape)


def _ahead(values: tf.Tensor, steps: int, default: Any) -> tf.Tensor:
    """What stands some places ahead of each place; at the end, a default."""
    return tf.concat([values, _filled(values, steps, default)], axis=0)[steps:]


def _behind(values: tf.Tensor, steps: int, default: Any) -> tf.Tensor:
    """What stands some places behind each place; at the start, a default."""
    return tf.concat([_filled(values, steps, default), values], axis=0)[:-steps]


def _filled(values: tf.Tensor, steps: int, default: Any) -> tf.Tensor:
    return tf.constant(default, values.dtype, [steps])
