"""The devices that a model trains on, and what its replicas tell each other.

One device for now: `strategy` is where `tf.distribute` comes in, and the training
step already speaks to its replicas through the functions below.
"""

from typing import Any

import tensorflow as tf

STRATEGIES = ("auto", "none")


def strategy(name: str = "auto") -> tf.distribute.Strategy:
    """The `tf.distribute` strategy that a config's `training.strategy` names.

    Args:
        name: string. `"auto"` or `"none"`; both mean TensorFlow's default device.

    Raises:
        ValueError: If there is no such strategy.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: {name!r}"
        )
    return tf.distribute.get_strategy()


def gather(embeddings: Any) -> Any:
    """All replicas' embeddings, in the order of the replicas; gradients flow.

    Args:
        embeddings: Tensor of shape `(n, dim)`, the same `n` on every replica.

    Returns:
        Tensor of shape `(replicas * n, dim)`.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return embeddings
    return context.all_gather(embeddings, axis=0)


def replica_offset(rows: Any) -> Any:
    """The row at which this replica's part starts in what `gather` returns."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group * rows
