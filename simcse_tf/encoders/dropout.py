"""Dropout whose masks are a function of a seed, so that they can be drawn again."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

_UINT16_RANGE = 1 << 16

Dropout = Callable[[tf.Tensor, float], tf.Tensor]


def no_dropout(tensor: tf.Tensor, rate: float) -> tf.Tensor:
    """Returns `tensor`: dropout outside training.

    Example:

    ```python
    no_dropout(tf.ones([2]), 0.1)  # [1.0, 1.0]
    ```
    """
    return tensor


def seeded_dropout(seeds: Iterator[tf.Tensor]) -> Dropout:
    """Dropout that takes the next seed at every use.

    It draws 16 random bits a number, so the rate is right to 1/65536.

    Args:
        seeds: Iterator over int32 tensors of shape `(2,)`.

    Returns:
        Function of a floating tensor and a rate. It returns a tensor of the same
        shape and dtype.

    Example:

    ```python
    drop = seeded_dropout(iter(tf.unstack(tf.random.split([1, 2], 3))))
    drop(tf.ones([4, 8]), 0.1)
    ```
    """

    def drop(tensor: tf.Tensor, rate: float) -> tf.Tensor:
        seed = next(seeds)
        dropped = round(rate * _UINT16_RANGE)
        if not dropped:
            return tensor
        shape = tf.shape(tensor)
        count = tf.reduce_prod(shape)
        words = tf.random.stateless_uniform(
            [(count + 1) // 2], seed, None, None, tf.uint32
        )
        bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
        kept = tf.cast(tf.reshape(bits, shape) >= dropped, tensor.dtype)
        return tensor * (kept * (_UINT16_RANGE / (_UINT16_RANGE - dropped)))

    return drop


def random_states(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The states of the random generators of a layer and its sublayers.

    Args:
        layer: A built `keras.layers.Layer`.

    Example:

    ```python
    random_states(backbone)  # one variable for each dropout layer
    ```
    """
    variables = layer.non_trainable_variables
    return [variable for variable in variables if "seed_generator" in variable.path]


@contextmanager
def dropout_seed_scope(seed: Any, states: Sequence[keras.Variable]) -> Iterator[None]:
    """Within the block every dropout mask of Keras layers follows from `seed` alone.

    The generators keep their own states. Each of them draws other numbers than the
    rest.

    Args:
        seed: int32 tensor of shape `(2,)`, as for `tf.random.stateless_uniform`.
        states: What `random_states` returns.

    Example:

    ```python
    with dropout_seed_scope(tf.constant([1, 2]), random_states(backbone)):
        hidden_states = backbone(features, training=True)
    ```
    """
    if not states:
        yield
        return
    seeds = tf.cast(tf.random.split(seed, len(states)), tf.int64)
    mapping = list(zip(states, tf.unstack(seeds), strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        yield


@functools.cache
def check_keras_dropout() -> None:
    """Checks once that `dropout_seed_scope` decides the masks in this Keras.

    `random_states` finds the generators by the name that Keras gives them. If Keras
    renamed them, masks would differ from run to run unnoticed.

    Raises:
        RuntimeError: If it does not.

    Example:

    ```python
    check_keras_dropout()  # raises if Keras renamed its generators
    ```
    """
    layer = keras.layers.Dropout(0.5)
    ones = tf.ones([64])
    layer.build(ones.shape)

    def mask(seed: int) -> tf.Tensor:
        with dropout_seed_scope(tf.constant([seed, 0]), random_states(layer)):
            return layer(ones, training=True)

    with tf.init_scope():
        repeats = bool(tf.reduce_all(mask(1) == mask(1)))
        differs = bool(tf.reduce_any(mask(1) != mask(2)))
    if not (repeats and differs):
        raise RuntimeError(
            f"Keras {keras.__version__} does not draw dropout masks from the seeds "
            "that simcse_tf gives it; Keras 3.12 to 3.15 are known to"
        )
