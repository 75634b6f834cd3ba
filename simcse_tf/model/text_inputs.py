"""Strings as Keras' methods get them, as tensors: one column, or several."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened
from simcse_tf.objectives.views import column_names

# One to several string tensors of shape `(n,)`. Behind two may stand scores, float32.
Columns: TypeAlias = tuple[tf.Tensor, ...]

_FORMS = (
    "a list of strings, a tuple of columns (anchors, positives), a list of tuples "
    "[(anchor, positive), ...] or a dictionary of columns"
)


def string_tensor(texts: Any) -> tf.Tensor:
    """A string tensor of shape `(n,)` from a list, array or tensor of strings.

    Args:
        texts: List, NumPy array, tensor or pandas Series of `str` or UTF-8 `bytes`.
            An array of shape `(n, 1)` is one of `(n,)`.

    Raises:
        TypeError: If `texts` is a single string or holds anything but `str` and
            `bytes`.
        UserError: If there are several strings a row.

    Example:

    ```python
    string_tensor(["A man plays.", b"Two dogs run."]).shape  # (2,)
    ```
    """
    if isinstance(texts, tf.Tensor) and texts.dtype == tf.string:
        if texts.shape.rank in (1, None):
            return texts
        if texts.shape.rank == 2 and texts.shape[1] == 1:
            return texts[:, 0]
    encoded = encoded_texts(texts)
    return tf.constant(encoded, tf.string, shape=(len(encoded),))


def encoded_texts(texts: Any) -> list[bytes]:
    """Strings as UTF-8.

    Args:
        texts: As for `string_tensor`.

    Raises:
        TypeError: As `string_tensor`.
        UserError: As `string_tensor`.

    Example:

    ```python
    encoded_texts(["A man plays.", b"Two dogs run."])
    ```
    """
    if isinstance(texts, tf.Tensor):
        texts = texts.numpy()
    if isinstance(texts, str | bytes):
        raise TypeError(
            f"Expected a list of strings. Received one string: {shortened(repr(texts))}"
        )
    array = np.asarray(texts, dtype=object)
    if array.ndim > 1 and array.shape[1:] != (1,):
        raise UserError(
            f"expected one string a row, received rows of {array.shape[1]} strings: "
            "pass one column at a time"
        )
    for text in (encoded := array.ravel().tolist()):
        if not isinstance(text, str | bytes):
            raise TypeError(
                f"Expected strings. Received {shortened(repr(text))} of type "
                f"{type(text).__name__}"
            )
    # A lone surrogate has no UTF-8 form. Its bytes pass, and become U+FFFD later.
    return [
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        for text in encoded
    ]


def columns_of(x: Any, y: Any = None) -> Columns:
    """What `fit` takes, as columns of strings.

    Args:
        x: A list, array or tensor of strings; a tuple of two or more of those (anchors,
            positives, hard negatives); a list of tuples, one for each example; an array
            `(n, 2)` or wider; a dictionary or pandas DataFrame of columns with the
            names of `column_names`. A tuple or a row may end with a score.
        y: Optional positives, or scores of pairs, as `x`.

    Raises:
        UserError: If `x` and `y` are no columns of as many strings.
        TypeError: As `string_tensor`.

    Example:

    ```python
    anchors, positives = columns_of([("A man plays.", "Somebody plays.")])
    ```
    """
    columns = _columns(x) if y is None else (*_columns(x), *_columns(y))
    *texts, _ = columns
    if len(texts) < 2 and any(not _is_text(each) for each in columns):
        raise UserError(
            "expected strings, received numbers: sentences need no labels (drop y), "
            "and scores stand behind pairs: (anchors, others, scores)"
        )
    if not all(map(_is_text, texts)):
        raise UserError("expected strings, and scores after all of them")
    sizes = [len(each) for each in columns]
    if len(set(sizes)) > 1 or not sizes[0]:
        raise UserError(
            "expected columns of as many strings, at least one, received "
            f"{', '.join(map(str, sizes))}"
        )
    return columns


def named_columns(columns: Any) -> list[Any]:
    """Columns that have names, in the order of `prepare`'s arguments.

    Args:
        columns: Dictionary or pandas DataFrame with the names of `column_names`.

    Raises:
        UserError: If there are other names, or one is missing.

    Example:

    ```python
    named_columns({"positive": positives, "anchor": anchors})  # [anchors, positives]
    ```
    """
    received = [str(name) for name in columns]
    expected = column_names(max(len(received), 1))
    if sorted(received) != sorted(expected):
        raise UserError(
            f"expected the columns {', '.join(expected)}, received "
            f"{shortened(', '.join(received)) or 'none'}: rename them, or pass a tuple "
            "of columns"
        )
    return [columns[name] for name in expected]


def is_named(x: Any) -> bool:
    """Whether something has its columns by name: a dictionary or a pandas DataFrame.

    Example:

    ```python
    is_named({"anchor": anchors})  # True
    ```
    """
    return isinstance(x, Mapping) or (hasattr(x, "columns") and hasattr(x, "to_numpy"))


def _columns(x: Any) -> Columns:
    if is_named(x):
        return tuple(map(_column, named_columns(x)))
    if isinstance(x, list) and x:
        if all(isinstance(row, tuple) for row in x):
            x = _transposed(x)
        elif isinstance(x[0], list | tuple | np.ndarray | tf.Tensor):
            raise UserError(
                f"expected {_FORMS}, received a list of {type(x[0]).__name__}s, which "
                "may be rows or columns"
            )
    else:
        shape = tuple(getattr(x, "shape", ()))
        if len(shape) == 2 and shape[1] > 1:
            x = tuple(x[:, index] for index in range(shape[1]))
    return tuple(map(_column, x)) if isinstance(x, tuple) else (_column(x),)


def _column(values: Any) -> tf.Tensor:
    """A column of strings, or of numbers as scores."""
    if isinstance(values, tf.Tensor):
        numbers = values.dtype.is_floating or values.dtype.is_integer
    else:
        first = next(iter(values), None) if isinstance(values, Iterable) else None
        numbers = isinstance(first, Real) and not isinstance(first, bool)
    return tf.cast(values, tf.float32) if numbers else string_tensor(values)


def _transposed(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """Rows as columns, `b""` where one has fewer hard negatives than another."""
    widths = [len(row) for row in rows]
    width = max(widths)
    if min(widths) < min(width, 2):
        raise UserError(
            "expected tuples of an anchor, a positive and any hard negatives, received "
            f"some of {min(widths)} and some of {width}"
        )
    full: Iterable[Any] = (row + (b"",) * (width - len(row)) for row in rows)
    return tuple(map(list, zip(*full, strict=True)))


def _is_text(column: tf.Tensor) -> bool:
    return column.dtype == tf.string
