"""How white space is normalized and texts are split into words before Unigram.

A word begins with the character U+2581, which stands for a space, and holds no other.
Characters are numbered: the symbols of a vocabulary.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from simcse_tf.tokenizers.added_tokens import WHITE_SPACE
from simcse_tf.tokenizers.paged_table import CODE_POINTS, PagedTable
from simcse_tf.tokenizers.ragged import chosen, first_of_rows, kept, rows_of

METASPACE = "\u2581"

_METASPACE, _SPACE = 1, 2
_LAST_SPACE = _METASPACE + len(WHITE_SPACE)


class Spaces(NamedTuple):
    """What becomes of white space; each line is a pipeline of `tokenizers`.

    Attributes:
        split: bool. Whether words end at any white space (`WhitespaceSplit`), and not
            only at spaces and U+2581 (`Metaspace`).
        strip: bool. Whether white space at a text's end is removed (`Strip`).
        merge: string or `None`. What several spaces become (`Replace`).
    """

    split: bool
    strip: bool
    merge: str | None


SPACES = {
    "split": Spaces(split=True, strip=False, merge=None),
    "merge": Spaces(split=False, strip=False, merge=" "),
    "strip": Spaces(split=False, strip=True, merge=METASPACE),
    "keep": Spaces(split=False, strip=False, merge=None),
}


class Alphabet:
    """Numbers characters: 0 is any other, U+2581 and white space come first.

    Args:
        characters: Iterable of string. The characters that get numbers.

    Attributes:
        symbols: dict from string to int. The number of each character.
        size: int. Greater than any number.

    Example:

    ```python
    alphabet = Alphabet("ab")
    alphabet(tf.constant([ord("b"), ord("c")]))  # [28, 0]
    ```
    """

    def __init__(self, characters: Iterable[str]):
        # The space before the other white space, which is in order.
        first = [METASPACE, " ", *WHITE_SPACE.replace(" ", "")]
        others = sorted(set(characters).difference(first))
        self.symbols = {c: i for i, c in enumerate([*first, *others], start=1)}
        self.size = len(self.symbols) + 1
        table = np.zeros(CODE_POINTS, np.int32)
        table[[*map(ord, self.symbols)]] = [*self.symbols.values()]
        self._table = PagedTable(table)

    def __call__(self, points: tf.Tensor) -> tf.Tensor:
        """Looks up the number of each code point.

        Args:
            points: int32 tensor.

        Returns:
            int32 tensor of the same shape.
        """
        return self._table(points)


def normalize_spaces(
    points: tf.RaggedTensor, symbols: tf.Tensor, spaces: Spaces
) -> tf.RaggedTensor:
    """Removes white space from the ends of texts, and merges spaces.

    Args:
        points: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The code
            points of each text.
        symbols: int32 tensor. Their numbers in an `Alphabet`.
        spaces: `Spaces`.

    Returns:
        `tf.RaggedTensor` of dtype int32 and shape `[n, None]`.
    """
    if spaces.strip:
        places = tf.range(tf.size(symbols))
        solid = tf.where(_is_white(symbols), -1, places)
        is_kept = places <= _last_of_rows(solid, points)
        symbols = chosen(symbols, is_kept)
        points = kept(points, is_kept)
    if spaces.merge is not None:
        is_space = symbols == _SPACE
        follows = is_space & tf.roll(is_space, 1, axis=0) & ~first_of_rows(points)
        precedes = tf.roll(follows, -1, axis=0)
        merged = tf.where(is_space & precedes, ord(spaces.merge), points.values)
        points = kept(points.with_values(merged), ~follows)
    return points


def open_part(symbols: tf.RaggedTensor, spaces: Spaces) -> tf.Tensor:
    """The end of each text that is split again once it is known how the text goes on.

    What is before it and what is behind are normalized and split each as if it were a
    text of its own. It begins where a word does whatever was before: behind white space
    or at U+2581 if words end at white space, and else at a space or U+2581 behind a
    character that is neither, so that no spaces are merged across it and none that may
    have to be removed are before it.

    Args:
        symbols: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The characters
            of each text, as an `Alphabet` numbers them.
        spaces: `Spaces`.

    Returns:
        bool tensor of shape `[characters]`. Whether it belongs to its text's open part.
    """
    flat = symbols.values
    places = tf.range(tf.size(flat))
    is_white, is_meta = _is_white(flat), flat == _METASPACE
    if spaces.split:
        closed = tf.where(is_white, places, tf.where(is_meta, places - 1, -1))
    else:
        follows = tf.roll(is_white | is_meta, 1, axis=0) | first_of_rows(symbols)
        begins = (is_meta | (flat == _SPACE)) & ~follows
        closed = tf.where(begins, places - 1, -1)
    return places > _last_of_rows(closed, symbols)


def known_spaces(symbols: tf.RaggedTensor, spaces: Spaces) -> tf.Tensor:
    """What normalizing leaves in a text's place, however the text goes on.

    Args:
        symbols: As for `open_part`.
        spaces: `Spaces`.

    Returns:
        bool tensor of shape `[characters]`. `False` for white space at a text's end
        that may be removed or merged.
    """
    flat = symbols.values
    if spaces.strip:
        may_vanish = _is_white(flat)
    elif spaces.merge is not None:
        may_vanish = flat == _SPACE
    else:
        return tf.ones_like(flat, tf.bool)
    places = tf.range(tf.size(flat))
    return places <= _last_of_rows(tf.where(may_vanish, -1, places), symbols)


def _last_of_rows(places: tf.Tensor, ragged: tf.RaggedTensor) -> tf.Tensor:
    """The greatest place of its row, for each value."""
    row = rows_of(ragged)
    last = tf.math.unsorted_segment_max(places, row, ragged.nrows())
    return tf.gather(last, row)


def split_words(symbols: tf.RaggedTensor, spaces: Spaces) -> tf.RaggedTensor:
    """Splits texts into words.

    Args:
        symbols: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The characters
            of each text, as an `Alphabet` numbers them.
        spaces: `Spaces`.

    Returns:
        `tf.RaggedTensor` of dtype int32 and shape `[n, None, None]`. The characters of
        each word of each text.
    """
    flat, row = symbols.values, rows_of(symbols)
    begins = first_of_rows(symbols)
    if spaces.split:
        is_white = _is_white(flat)
        begins = ~is_white & (begins | tf.roll(is_white, 1, axis=0))
        is_kept = ~is_white
    else:
        flat = tf.where(flat == _SPACE, _METASPACE, flat)
        is_kept = tf.ones_like(begins)
    lacks = begins & (flat != _METASPACE)

    # A word that lacks its U+2581 gets its first character twice; one is replaced.
    source = tf.repeat(
        tf.range(tf.size(flat)), tf.cast(is_kept, tf.int32) + tf.cast(lacks, tf.int32)
    )
    is_copy = tf.concat([source[1:] == source[:-1], [False]], axis=0)[: tf.size(source)]
    flat = tf.where(is_copy, _METASPACE, tf.gather(flat, source))
    starts = tf.where(flat == _METASPACE)[:, 0]
    return tf.RaggedTensor.from_value_rowids(
        tf.RaggedTensor.from_row_starts(flat, starts, validate=False),
        tf.gather(row, tf.gather(source, starts)),
        symbols.nrows(),
        validate=False,
    )


def _is_white(symbols: tf.Tensor) -> tf.Tensor:
    return (symbols >= _SPACE) & (symbols <= _LAST_SPACE)
