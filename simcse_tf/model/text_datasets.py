"""Data sets, generators and `PyDataset`s of strings, as batches of columns."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.model.text_inputs import Columns, columns_of, named_columns

# What was raised where TensorFlow reads batches.
Problems: TypeAlias = list[Exception]


def column_batches(
    x: Any,
    y: Any,
    batch_size: int,
    shuffle: bool = False,
    problems: Problems | None = None,
) -> tf.data.Dataset:
    """What `fit` takes, as batches of columns.

    Args:
        x: What `columns_of` takes, or a `tf.data.Dataset` of such examples or batches,
            or a generator or `keras.utils.PyDataset` of batches.
        y: Optional positives or scores; see `columns_of`.
        batch_size: int. Not used for what is batched.
        shuffle: bool. Whether to shuffle, every epoch: the examples of what is not a
            data set, the batches of a `PyDataset`. Defaults to `False`.
        problems: Optional list for `problems_raised`.

    Raises:
        UserError: If `x` is something else.

    Example:

    ```python
    column_batches((anchors, positives), None, batch_size=64, shuffle=True)
    ```
    """
    if is_batched_source(x):
        if y is not None:
            raise UserError(
                f"y: expected none beside a {type(x).__name__}, which yields all "
                "columns itself: (anchors, positives)"
            )
        return _source_batches(x, batch_size, problems, shuffle)
    columns = columns_of(x, y)
    size = len(columns[0])
    if size < 2:
        raise UserError(
            "expected two examples or more, because one has no negatives; received 1"
        )
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    if shuffle:
        dataset = dataset.shuffle(size)
    return dataset.batch(min(batch_size, size), drop_remainder=True)


def text_batches(
    x: Any, batch_size: int, problems: Problems | None = None
) -> tf.data.Dataset:
    """A data set, generator or `PyDataset` of texts, as batches of one column.

    Args:
        x: See `column_batches`. Numbers beside the texts, labels say, are left out.
        batch_size: int. Not used for what is batched.
        problems: Optional list for `problems_raised`.

    Raises:
        UserError: If there are several columns of texts.

    Example:

    ```python
    text_batches(tf.data.Dataset.from_tensor_slices(texts), batch_size=64)
    ```
    """
    if isinstance(x, tf.data.Dataset) and isinstance(x.element_spec, tuple):
        others = x.element_spec[1:]
        if not any(each.dtype == tf.string for each in tf.nest.flatten(others)):
            x = x.map(lambda text, *others: text)
    dataset = _source_batches(x, batch_size, problems, drop_remainder=False)
    if len(dataset.element_spec) > 1:
        raise UserError(
            "expected one string a row, received rows of "
            f"{len(dataset.element_spec)}: pass one column at a time"
        )
    return dataset


def is_batched_source(x: Any) -> bool:
    """Whether something yields batches or examples, one after the other.

    Example:

    ```python
    is_batched_source(tf.data.Dataset.from_tensor_slices(texts))  # True
    ```
    """
    sources = tf.data.Dataset | keras.utils.PyDataset | Iterator
    return isinstance(x, sources | tf.distribute.DistributedDataset)


@contextmanager
def problems_raised(problems: Problems) -> Iterator[None]:
    """Raises what went wrong in a generator as it is, not as TensorFlow tells it.

    Args:
        problems: The list that `column_batches` or `text_batches` got.

    Example:

    ```python
    with problems_raised(problems):
        model.fit(dataset)
    ```
    """
    try:
        yield
    except tf.errors.OpError:
        if problems:
            raise problems[0] from None
        raise


def _source_batches(
    x: Any,
    batch_size: int,
    problems: Problems | None,
    shuffle: bool = False,
    drop_remainder: bool = True,
) -> tf.data.Dataset:
    if isinstance(x, tf.data.Dataset):
        return _of_dataset(x, batch_size, drop_remainder)
    if isinstance(x, keras.utils.PyDataset):
        return _of_py_dataset(x, shuffle, problems)
    if isinstance(x, Iterator):
        return _of_generator(x, problems)
    raise UserError(
        f"a {type(x).__name__} of strings: expected the tf.data.Dataset that it was "
        "made of, or one of what SimCSE.prepare returns"
    )


def _of_dataset(
    dataset: tf.data.Dataset, batch_size: int, drop_remainder: bool
) -> tf.data.Dataset:
    dataset = dataset.map(_graph_columns(dataset.element_spec))
    if dataset.element_spec[0].shape.rank == 0:
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    return dataset


def _graph_columns(spec: Any) -> Callable[..., Columns]:
    """A function from a data set's element to columns, in the graph."""
    if isinstance(spec, Mapping):
        named_columns(spec)
    leaves = tf.nest.flatten(spec)
    texts = leaves if leaves[-1].dtype == tf.string or len(leaves) < 3 else leaves[:-1]
    if any(leaf.dtype != tf.string for leaf in texts):
        kinds = ", ".join(leaf.dtype.name for leaf in leaves)
        raise UserError(
            f"expected a data set of strings, received {kinds}: sentences need no "
            "labels, and scores stand behind pairs: (anchors, others, scores)"
        )

    def columns(*element: Any) -> Columns:
        if isinstance(spec, Mapping):
            element = tuple(named_columns(element[0]))
        found = [
            part
            for each in tf.nest.flatten(element)
            for part in (tf.unstack(each, axis=1) if each.shape.rank == 2 else [each])
        ]
        return tuple(
            each if each.dtype == tf.string else tf.cast(each, tf.float32)
            for each in found
        )

    return columns


def _of_generator(
    generator: Iterator[Any], problems: Problems | None
) -> tf.data.Dataset:
    first = next(generator, None)
    if first is None:
        raise UserError("expected a generator of batches, received an empty one")
    batches = itertools.chain([first], generator)
    return _of_batches(lambda: map(columns_of, batches), columns_of(first), problems)


def _of_py_dataset(
    x: keras.utils.PyDataset, shuffle: bool, problems: Problems | None
) -> tf.data.Dataset:
    def batches() -> Iterator[Columns]:
        x.on_epoch_begin()
        order: Iterable[int] = itertools.count()
        if x.num_batches is not None:
            order = list(range(x.num_batches))
            if shuffle:
                random.shuffle(order)
        for index in order:
            yield columns_of(x[index])
        x.on_epoch_end()

    dataset = _of_batches(batches, columns_of(x[0]), problems)
    if x.num_batches is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(x.num_batches))
    return dataset


def _of_batches(
    batches: Callable[[], Iterator[Columns]], first: Columns, problems: Problems | None
) -> tf.data.Dataset:
    def noting() -> Iterator[Columns]:
        try:
            yield from batches()
        except Exception as error:
            if problems is not None:
                problems.append(error)
            raise

    signature = tuple(tf.TensorSpec([None], column.dtype) for column in first)
    return tf.data.Dataset.from_generator(noting, output_signature=signature)
