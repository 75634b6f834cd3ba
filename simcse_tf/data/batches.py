"""Batches: what step `s` sees is a function of `s` and the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.data.base import Source
from simcse_tf.data.no_duplicates import NoDuplicates

if TYPE_CHECKING:
    import tensorflow as tf


def training_batches(
    source: Source,
    batch_size: int,
    first_step: int,
    last_step: int,
    shuffle: bool = True,
    seed: int = 42,
    parts: int = 1,
    own_parts: range = range(1),
    problems: list[UserError] | None = None,
    plan: NoDuplicates | None = None,
) -> tf.data.Dataset:
    """The training batches of some steps.

    What step `s` sees is a function of `s` and the seed alone, so that a run can
    resume at any step. An epoch's last batch is dropped if it is short.

    Args:
        source: Where the examples come from.
        batch_size: int. Examples a step.
        first_step: int. Counted from 0.
        last_step: int. The step after the last one.
        shuffle: bool. Whether each epoch has a random order of its own, or the
            source's order. Defaults to `True`.
        seed: int. The seed of the shuffling. Defaults to `42`.
        parts: int. The number of parts of a batch, one for each replica. Defaults
            to `1`.
        own_parts: range. The parts of each step to return, in their order; only
            their examples are read. Defaults to `range(1)`.
        problems: Optional list for `problems_told`. Gets what the source raises
            while it is read.
        plan: Optional `NoDuplicates` of the source. Says which examples each step
            sees, instead of `shuffle` and `seed`.

    Returns:
        `tf.data.Dataset` of tuples of `source.columns` string tensors of shape
        `(batch_size // parts,)`. Where the source is scored, the scores follow, as a
        float32 tensor of that shape.

    Raises:
        UserError: If the source holds fewer examples than a batch.

    Example:

    ```python
    training_batches(open_source("pairs.csv"), 64, first_step=0, last_step=100)
    ```
    """
    import tensorflow as tf

    steps = plan.steps if plan else steps_per_epoch(source, batch_size)
    rows, width = batch_size // parts, source.columns + source.scored

    def indices(count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step, part = count // len(own_parts), count % len(own_parts) + own_parts.start
        epoch, position = step // steps, step % steps * batch_size + part * rows
        order = position + tf.range(rows, dtype=tf.int64)
        if shuffle and not plan:
            order = tf.random.experimental.index_shuffle(
                order, tf.stack([seed, epoch]), len(source) - 1
            )
        return order, epoch

    def read(order: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        try:
            if plan:
                order = plan.indices(int(epoch), order)
            return np.array(source.read(order.tolist(), int(epoch)), dtype=object)
        except UserError as problem:
            if problems is not None:
                problems.append(problem)
            raise

    def columns(order: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = tf.numpy_function(read, [order, epoch], tf.string)
        texts = tf.unstack(tf.ensure_shape(values, (rows, width)), axis=1)
        if source.scored:
            texts[-1] = tf.strings.to_number(texts[-1])
        return tuple(texts)

    first, last = first_step * len(own_parts), last_step * len(own_parts)
    return tf.data.Dataset.range(first, last).map(indices).map(columns)


@contextmanager
def problems_told(problems: list[UserError]) -> Iterator[None]:
    """Raises what was wrong with the data instead of what TensorFlow makes of it.

    Args:
        problems: The list that `training_batches` has.

    Raises:
        UserError: The first of the list, if the block fails in TensorFlow.

    Example:

    ```python
    with problems_told(problems):
        model.fit(training_batches(source, 64, 0, 100, problems=problems))
    ```
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError:
        if problems:
            raise problems[0] from None
        raise


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """The number of whole batches in the source.

    Raises:
        UserError: If there is none.

    Example:

    ```python
    steps_per_epoch(open_source("sentences.txt"), 64)  # 15625
    ```
    """
    if len(source) < batch_size:
        raise UserError(
            f"data.train holds {len(source)} examples, fewer than one batch "
            f"(training.batch_size {batch_size})"
        )
    return len(source) // batch_size
