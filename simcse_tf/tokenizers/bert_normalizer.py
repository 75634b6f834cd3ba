"""BERT's normalization and its words, from one table of code points."""

import tensorflow as tf

from simcse_tf.tokenizers import unicode_tables

_COMBINING_CLASSES = 256


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
        written = points != unicode_tables.WORD_BREAK
        return _encode(tf.ragged.boolean_mask(points, written))

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

    def _code_points(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Normalized code points, with `WORD_BREAK` on both sides of punctuation."""
        characters = tf.strings.unicode_decode(text, "UTF-8")
        codes = self._look_up(characters.values)
        sources = tf.gather(characters.values, codes.value_rowids())
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
        runs = tf.cumsum(tf.cast(classes == 0, tf.int64)) + codes.value_rowids()
        keys = runs * _COMBINING_CLASSES + tf.cast(classes, tf.int64)
        return tf.gather(codes.values, tf.argsort(keys, stable=True))

    # Such marks are rare, and sorting costs more than all the rest.
    values = tf.cond(tf.reduce_any(classes > 0), in_order, lambda: codes.values)
    points = codes.with_values(_without_class(values))
    return tf.ragged.boolean_mask(points, points != unicode_tables.BARRIER)


def _encode(points: tf.RaggedTensor) -> tf.Tensor:
    return tf.strings.unicode_encode(points, "UTF-8")
