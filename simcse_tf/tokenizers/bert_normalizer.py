"""BERT's normalization and its words, from one table of code points."""

import tensorflow as tf

from simcse_tf.tokenizers import unicode_tables
from simcse_tf.tokenizers.paged_table import PagedTable
from simcse_tf.tokenizers.ragged import chosen, first_of_rows, kept, rows_of, sums
from simcse_tf.tokenizers.unicode_tables import Kind

# A word of more characters is unknown, whatever they are.
MAX_CHARACTERS_PER_WORD = 100

_COMBINING_CLASSES = 256
_TOO_LONG = "a" * (MAX_CHARACTERS_PER_WORD + 1)


class BertNormalizer:
    """Cleans, lower-cases and strips text, and finds where its words end.

    The result is that of the `tokenizers` package (`BertNormalizer`,
    `BertPreTokenizer`). Each code point is looked up in one table.

    Args:
        lowercase: bool. Whether to lower-case the text.
        strip_accents: bool. Whether to remove accents.
        handle_chinese_chars: bool. Whether a Chinese character is a word of its own.

    Example:

    ```python
    normalizer = BertNormalizer(True, True, True)
    normalizer.normalize(tf.constant(["Café!"]))  # ["cafe!"]
    normalizer.words(tf.constant(["Café!"]))  # [["cafe", "!", ""]]
    ```
    """

    def __init__(
        self, lowercase: bool, strip_accents: bool, handle_chinese_chars: bool
    ):
        self._strip_accents = strip_accents
        self._kinds = PagedTable(
            unicode_tables.kinds(lowercase, strip_accents, handle_chinese_chars)
        )
        table = unicode_tables.code_point_table(
            lowercase, strip_accents, handle_chinese_chars
        )
        with tf.init_scope(), tf.device("CPU"):
            self._pages = tf.constant(table.pages)
            self._rows = tf.constant(table.rows)
            self._codes = tf.RaggedTensor.from_row_splits(table.codes, table.row_splits)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Normalizes a batch of texts.

        Args:
            text: String tensor of shape `[n]`.

        Returns:
            String tensor of shape `[n]`, in UTF-8.
        """
        points = self._code_points(text)
        written = points.values != unicode_tables.WORD_BREAK
        return _encode(kept(points, written))

    def words(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Splits a batch of texts into normalized words.

        Args:
            text: String tensor of shape `[n]`.

        Returns:
            `tf.RaggedTensor` of dtype string and shape `[n, None]`. Some of the words
            may be empty.
        """
        points = self._code_points(text)
        is_break = points.values == unicode_tables.WORD_BREAK
        spaced = points.with_values(tf.where(is_break, ord(" "), points.values))
        return tf.strings.split(_encode(spaced), " ")

    def split(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Splits texts at the end of a word, however they go on.

        Each code point is normalized alone, but that marks are sorted between two that
        are none. Nothing moves across the end of a word. So the words up to it do not
        depend on what is behind it, and those behind it not on what is before.

        Behind the last end there is one word, which may go on. What changes nothing is
        left out of it: code points that leave no trace, and a barrier behind a barrier.
        If it is too long already, another word that is stands for it.

        Args:
            text: String tensor of shape `[n]`.

        Returns:
            Two string tensors of shape `[n]`: the text up to the last end of a word,
            and one that, whatever follows, has the same ids as the rest of it.
        """
        points, offsets = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
        row = rows_of(points)
        kinds = self._kinds(points.values)
        places = tf.range(tf.size(kinds, tf.int64))
        last = tf.math.unsorted_segment_max(
            tf.where(kinds == Kind.END, places, -1), row, points.nrows()
        )
        is_rest = places > tf.gather(last, row)
        size = tf.math.unsorted_segment_min(
            tf.where(is_rest, offsets.values, tf.int64.max), row, points.nrows()
        )
        length = tf.strings.length(text)
        size = tf.cast(tf.minimum(size, tf.cast(length, tf.int64)), tf.int32)

        is_inside = tf.cast(is_rest & (kinds == Kind.INSIDE), tf.int32)
        is_too_long = sums(points.with_values(is_inside)) > MAX_CHARACTERS_PER_WORD

        is_kept = is_rest & (kinds != Kind.NOTHING)
        rest = kept(points, is_kept)
        is_barrier = chosen(kinds, is_kept) == Kind.BARRIER
        repeats = is_barrier & tf.roll(is_barrier, 1, axis=0) & ~first_of_rows(rest)
        rest = kept(rest, ~repeats)
        return (
            tf.strings.substr(text, tf.zeros_like(size), size),
            tf.where(is_too_long, _TOO_LONG, _encode(rest)),
        )

    def _code_points(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Normalized code points, with `WORD_BREAK` on both sides of punctuation."""
        characters = tf.strings.unicode_decode(text, "UTF-8")
        codes = self._look_up(characters.values)
        sources = tf.gather(characters.values, rows_of(codes))
        is_source = _without_class(codes.values) == unicode_tables.ITSELF
        resolved = tf.where(
            is_source, codes.values - unicode_tables.ITSELF + sources, codes.values
        )
        splits = tf.gather(codes.row_splits, characters.row_splits)
        normalized = tf.RaggedTensor.from_row_splits(resolved, splits, validate=False)
        return _order_marks(normalized) if self._strip_accents else normalized

    def _look_up(self, points: tf.Tensor) -> tf.RaggedTensor:
        page_size = unicode_tables.PAGE_SIZE
        page = tf.gather(self._pages, points // page_size)
        row = tf.gather(self._rows, page * page_size + points % page_size)
        return tf.gather(self._codes, row)


def _without_class(codes: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(codes, unicode_tables.CODE_POINT_MASK)


def _order_marks(codes: tf.RaggedTensor) -> tf.RaggedTensor:
    """Puts the marks that stripping left into Unicode's canonical order."""
    classes = tf.bitwise.right_shift(codes.values, unicode_tables.COMBINING_SHIFT)

    def in_order() -> tf.Tensor:
        # Marks sort between two code points of class 0, and within a text.
        runs = tf.cumsum(tf.cast(classes == 0, tf.int64)) + rows_of(codes)
        keys = runs * _COMBINING_CLASSES + tf.cast(classes, tf.int64)
        return tf.gather(codes.values, tf.argsort(keys, stable=True))

    # Such marks are rare, and sorting costs more than all the rest.
    values = tf.cond(tf.reduce_any(classes > 0), in_order, lambda: codes.values)
    values = _without_class(values)
    return kept(codes.with_values(values), values != unicode_tables.BARRIER)


def _encode(points: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.unicode_encode(points, "UTF-8")
