"""SentencePiece's precompiled normalizer as the `tokenizers` package runs it."""

import numpy as np
import tensorflow as tf

from simcse_tf.tokenizers.charsmap import MAX_KEY_BYTES, read_charsmap
from simcse_tf.tokenizers.graphemes import GraphemeClusters
from simcse_tf.tokenizers.paged_table import CODE_POINTS, PagedTable
from simcse_tf.tokenizers.ragged import chosen, first_of_rows, of_row, rows_of

_ITSELF, _NOTHING = 0, 1  # rows
_POINTS = 1 << 21  # all code points are below it
_SOURCE = -1  # a code that stands for the code point that is looked up


class PrecompiledNormalizer:
    """Replaces code points and short grapheme clusters as a charsmap says.

    SentencePiece replaces the longest key that a text goes on with. The `tokenizers`
    package does something else, and models were trained on its results: a cluster of
    at most five bytes becomes the replacement of the shortest key that it begins with,
    and the rest of it is gone. Where no key begins it, or it is longer, each of its
    code points is replaced alone.

    Args:
        charsmap: bytes. The `precompiled_charsmap` of a SentencePiece model.

    Attributes:
        expansion: float. The most code points that become of a byte, or 1.

    Raises:
        UserError: If the charsmap cannot be read.

    Example:

    ```python
    normalizer = PrecompiledNormalizer(charsmap)
    normalizer(tf.strings.unicode_decode(["ﬁne"], "UTF-8"))  # "fine"
    ```
    """

    def __init__(self, charsmap: bytes):
        replacements = read_charsmap(charsmap)
        keys = [key for key in replacements if _is_shortest(key, replacements)]
        rows = dict(zip(keys, range(_NOTHING + 1, len(keys) + 2), strict=True))
        sizes = (len(replacements[key]) / len(key.encode()) for key in keys)
        self.expansion = max([1.0, *sizes])
        codes = [[_SOURCE], [], *([*map(ord, replacements[key])] for key in keys)]

        row_of = np.full(CODE_POINTS, _ITSELF, np.int32)
        for key in keys:
            if len(key) == 1:
                row_of[ord(key)] = rows[key]
        clusters = sorted((_packed(key), rows[key]) for key in keys if len(key) > 1)
        # Greater than any other: what is looked for stands at or before it.
        clusters.append((np.iinfo(np.int64).max, _ITSELF))

        self._row_of = PagedTable(row_of)
        self._clusters = GraphemeClusters()
        with tf.init_scope(), tf.device("CPU"):
            self._codes = tf.ragged.constant(codes, tf.int32, row_splits_dtype=tf.int64)
            self._cluster_keys = tf.constant([key for key, _ in clusters], tf.int64)
            self._cluster_rows = tf.constant([row for _, row in clusters], tf.int32)

    # Stands in several branches of a tokenizer: traced once, and not copied.
    @tf.function(
        input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    def __call__(self, points: tf.RaggedTensor) -> tf.RaggedTensor:
        """Normalizes texts.

        Args:
            points: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The code
                points of each text.

        Returns:
            `tf.RaggedTensor` of dtype int32 and shape `[n, None]`.
        """
        flat = points.values
        rows = self._row_of(flat)
        classes = self._clusters.classes(flat)
        first = first_of_rows(points)
        sizes = _bytes(flat)
        pairs = self._clusters.joined_pairs(classes, first)
        is_short = sizes + tf.roll(sizes, 1, axis=0) <= MAX_KEY_BYTES
        rows = tf.cond(
            tf.reduce_any(pairs & is_short),
            lambda: self._cluster_rows_of(flat, rows, classes, first, sizes),
            lambda: rows,
        )
        codes = tf.gather(self._codes, rows)
        sources = of_row(codes, flat)
        values = tf.where(codes.values == _SOURCE, sources, codes.values)
        splits = tf.gather(codes.row_splits, points.row_splits)
        return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

    def last_clusters(self, points: tf.RaggedTensor) -> tf.Tensor:
        """What belongs to its text's last cluster, which may go on.

        Whether a cluster begins with a code point follows from what stands between it
        and the cluster before. So those before the last one are what they are whatever
        follows, and those behind its beginning whatever was before.

        Args:
            points: `tf.RaggedTensor` of dtype int32 and shape `[n, None]`. The code
                points of each text.

        Returns:
            bool tensor of shape `[code points]`.
        """
        classes = self._clusters.classes(points.values)
        begins = ~self._clusters.joined(classes, first_of_rows(points))
        row = rows_of(points)
        places = tf.range(tf.size(row))
        last = tf.math.unsorted_segment_max(
            tf.where(begins, places, -1), row, points.nrows()
        )
        return places >= tf.gather(last, row)

    def _cluster_rows_of(
        self,
        points: tf.Tensor,
        rows: tf.Tensor,
        classes: tf.Tensor,
        first: tf.Tensor,
        sizes: tf.Tensor,
    ) -> tf.Tensor:
        """The rows, with those of whole clusters in their places."""
        begins = ~self._clusters.joined(classes, first)
        cluster = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        bytes_of = tf.math.segment_sum(sizes, cluster)
        count_of = tf.math.segment_sum(tf.ones_like(sizes), cluster)
        short = (bytes_of <= MAX_KEY_BYTES) & (count_of > 1)
        heads = chosen(tf.where(begins)[:, 0], short)
        counts = chosen(count_of, short)

        # So few bytes are three code points at most.
        padded = tf.cast(tf.concat([points, [0, 0]], axis=0), tf.int64)
        one, two, three = (tf.gather(padded, heads + offset) for offset in range(3))
        pair = (one * _POINTS + two) * _POINTS
        triple = pair + tf.where(counts > 2, three, 0)
        found = tf.gather(rows, heads)
        for key in (pair, triple):
            found = tf.where(found == _ITSELF, self._row_of_cluster(key), found)

        is_key = found != _ITSELF
        heads = chosen(heads, is_key)
        counts = chosen(counts, is_key)
        thirds = chosen(heads, counts > 2)
        places = tf.concat([heads, heads + 1, thirds + 2], axis=0)
        replaced = chosen(found, is_key)
        gone = tf.fill([tf.size(heads) + tf.size(thirds)], _NOTHING)
        return tf.tensor_scatter_nd_update(
            rows, places[:, None], tf.concat([replaced, gone], axis=0)
        )

    def _row_of_cluster(self, keys: tf.Tensor) -> tf.Tensor:
        place = tf.searchsorted(self._cluster_keys, keys)
        is_key = tf.gather(self._cluster_keys, place) == keys
        return tf.where(is_key, tf.gather(self._cluster_rows, place), _ITSELF)


def _is_shortest(key: str, keys: dict[str, str]) -> bool:
    return not any(key[:end] in keys for end in range(1, len(key)))


def _packed(key: str) -> int:
    """Up to three code points in one number."""
    one, two, three = [*map(ord, key), 0][:3]
    return (one * _POINTS + two) * _POINTS + three


def _bytes(points: tf.Tensor) -> tf.Tensor:
    """The length of each code point in UTF-8."""
    longer = [points >= bound for bound in (0x80, 0x800, 0x10000)]
    return 1 + tf.add_n([tf.cast(each, tf.int32) for each in longer])
