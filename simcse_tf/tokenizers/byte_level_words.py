"""The words that byte-level BPE splits a text into, as TensorFlow operations.

GPT-2 splits a text by a regular expression that looks ahead, which RE2 cannot. Here
each character knows from its neighbours whether a word begins with it.
"""

import functools
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from simcse_tf.tokenizers.character_classes import SPACE, character_classes
from simcse_tf.tokenizers.paged_table import PagedTable
from simcse_tf.tokenizers.ragged import chosen, kept, rows_of

_APOSTROPHE = ord("'")
_SHORT = ("s", "t", "m", "d")
_LONG = ("re", "ve", "ll")
# Whether a word begins with a character depends on so many behind it.
_AHEAD = 2


class WordSplitter:
    """Splits texts into the words that byte-level BPE works on.

    A word is a contraction (`'s 't 'm 'd 're 've 'll`), or letters, or numbers, or
    other characters, with at most one space in front, or white space. White space
    leaves its last character to the word behind it; if that is no space, it is a word
    of its own.

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

    def closed_words(
        self, text: tf.Tensor, is_last: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
        """Splits texts into words as far as these do not depend on what follows.

        It is known where a word begins, except for the last two characters. And the
        words from there on do not depend on those before, as the regular expression
        goes on where a word has ended and does not look back.

        Args:
            text: String tensor of shape `[n]`. Bytes that are not UTF-8 count as
                U+FFFD.
            is_last: bool tensor of shape `[n]`. Whether nothing follows.

        Returns:
            The words that are known, a ragged tensor of strings, `[n, None]`. The rest
            of the text, `[n]`. And what is known of the rest's first word, `[n]`.
        """
        words = self(text)
        row = rows_of(words)
        total = tf.concat(
            [[0], tf.cumsum(tf.strings.length(words.values, unit="UTF8_CHAR"))], axis=0
        )
        # The characters from a word's end to the text's.
        behind = tf.gather(total, tf.gather(words.row_limits(), row)) - total[1:]
        is_closed = (behind > _AHEAD) | tf.gather(is_last, row)
        closed = kept(words, is_closed)
        rest = tf.strings.unsorted_segment_join(
            chosen(words.values, ~is_closed), chosen(row, ~is_closed), tf.size(text)
        )
        known = tf.maximum(tf.strings.length(rest, unit="UTF8_CHAR") - _AHEAD, 0)
        begun = tf.strings.substr(rest, tf.zeros_like(known), known, unit="UTF8_CHAR")
        return closed, rest, begun

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
        short = may_contract & _any(second == ord(letter) for letter in _SHORT)
        long = may_contract & _any(
            (second == ord(ending[0])) & (third == ord(ending[1])) for ending in _LONG
        )
        inside = _behind(short | long, 1, False)
        behind = _behind(short, 2, False) | _behind(long, 3, False)
        return (begins & ~inside) | behind


def _any(conditions: Iterable[tf.Tensor]) -> tf.Tensor:
    return functools.reduce(tf.logical_or, conditions)


def _is_first(points: tf.RaggedTensor) -> tf.Tensor:
    """Whether a character is its text's first."""
    starts = chosen(points.row_starts(), points.row_lengths() > 0)
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
