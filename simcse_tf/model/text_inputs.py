"""Strings as Keras' `fit` and `predict` get them, as tensors and batches."""

from typing import Any

import numpy as np
import tensorflow as tf


def string_tensor(texts: Any) -> tf.Tensor:
    """A string tensor of shape `(n,)` from a list, array or tensor of strings.

    Args:
        texts: List, NumPy array or tensor of `str` or UTF-8 `bytes`.

    Raises:
        TypeError: If `texts` is a single string or holds anything but `str` and
            `bytes`.

    Example:

    ```python
    string_tensor(["A man plays.", b"Two dogs run."]).shape  # (2,)
    ```
    """
    if isinstance(texts, tf.Tensor) and texts.dtype == tf.string:
        return texts
    encoded = encoded_texts(texts)
    return tf.constant(encoded, tf.string, shape=(len(encoded),))


def encoded_texts(texts: Any) -> list[bytes]:
    """Strings as UTF-8.

    Args:
        texts: As for `string_tensor`.

    Raises:
        TypeError: As `string_tensor`.

    Example:

    ```python
    encoded_texts(["A man plays.", b"Two dogs run."])
    ```
    """
    if isinstance(texts, tf.Tensor):
        texts = texts.numpy()
    if isinstance(texts, str | bytes):
        raise TypeError(f"Expected a list of strings. Received one string: {texts!r}")
    texts = np.asarray(texts, dtype=object).ravel().tolist()
    for text in texts:
        if not isinstance(text, str | bytes):
            raise TypeError(
                f"Expected strings. Received {text!r} of type {type(text).__name__}"
            )
    # A lone surrogate has no UTF-8 form. Its bytes pass, and become U+FFFD later.
    return [
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        for text in texts
    ]


def column_batches(x: Any, batch_size: int, shuffle: bool = False) -> tf.data.Dataset:
    """What `fit` takes, as batches of one to three columns of strings.

    Args:
        x: A list, array or tensor of strings, a tuple of two or three of those, or a
            `tf.data.Dataset` of such elements, batched or not.
        batch_size: int. Not used for a dataset that is batched.
        shuffle: bool. Whether to shuffle what is not a dataset, every epoch. Defaults
            to `False`.

    Example:

    ```python
    column_batches((anchors, positives), batch_size=64, shuffle=True)
    ```
    """
    if not isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
        columns = tuple(map(string_tensor, x if isinstance(x, tuple) else (x,)))
        size = len(columns[0])
        x = tf.data.Dataset.from_tensor_slices(columns)
        x = x.shuffle(size) if shuffle else x
        batch_size = min(batch_size, size)
    return batched(x, batch_size, drop_remainder=True)


def batched(
    dataset: tf.data.Dataset, batch_size: int, drop_remainder: bool = False
) -> tf.data.Dataset:
    """Batches a dataset of strings, unless it is batched already.

    Example:

    ```python
    batched(tf.data.Dataset.from_tensor_slices(sentences), 64)
    ```
    """
    first = tf.nest.flatten(dataset.element_spec)[0]
    if first.shape.rank == 0:
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    return dataset
