"""Dropout whose masks are a function of a seed, so that they can be drawn again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


def random_states(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The states of a layer's (and its sublayers') random generators."""
    variables = layer.non_trainable_variables
    return [variable for variable in variables if "seed_generator" in variable.path]


@contextmanager
def dropout_seed_scope(seed: Any, states: Sequence[keras.Variable]) -> Iterator[None]:
    """Within the block every dropout mask follows from `seed` alone.

    The generators themselves stay where they are, and each of them draws other
    numbers than the rest.

    Args:
        seed: int32 tensor of shape `(2,)`, as for `tf.random.stateless_uniform`.
        states: What `random_states` returns.
    """
    if not states:
        yield
        return
    seeds = tf.cast(tf.random.split(seed, len(states)), tf.int64)
    mapping = list(zip(states, tf.unstack(seeds), strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        yield
