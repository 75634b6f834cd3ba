"""A value for each of Unicode's code points, as a table of pages."""

import numpy as np
import tensorflow as tf

CODE_POINTS = 0x110000
PAGE_SIZE = 256


class PagedTable:
    """Looks code points up in a table of which equal pages are stored once.

    Args:
        values: array of shape `[0x110000]`. The value of each code point.

    Example:

    ```python
    is_digit = np.zeros(CODE_POINTS, bool)
    is_digit[ord("0") : ord("9") + 1] = True
    PagedTable(is_digit)(tf.constant([ord("a"), ord("7")]))  # [False, True]
    ```
    """

    def __init__(self, values: np.ndarray):
        # A dict is a hundred times as fast as sorting the pages.
        number: dict[bytes, int] = {}
        pages: list[np.ndarray] = []
        page_of = []
        for page in values.reshape(-1, PAGE_SIZE):
            page_of.append(number.setdefault(page.tobytes(), len(number)))
            if len(pages) < len(number):
                pages.append(page)
        with tf.init_scope(), tf.device("CPU"):
            self._page_of = tf.constant(page_of, tf.int32)
            self._pages = tf.constant(np.concatenate(pages))

    def __call__(self, points: tf.Tensor) -> tf.Tensor:
        """Looks up the value of each code point.

        Args:
            points: int32 tensor.

        Returns:
            Tensor of the same shape, of the table's dtype.
        """
        page = tf.gather(self._page_of, points // PAGE_SIZE)
        return tf.gather(self._pages, page * PAGE_SIZE + points % PAGE_SIZE)
