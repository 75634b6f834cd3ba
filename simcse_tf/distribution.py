"""The devices that a model trains on, and what its replicas tell each other."""

from typing import Any

import tensorflow as tf

from simcse_tf.errors import UserError

STRATEGIES = ("auto", "none", "mirrored")


def split_cpu(count: int) -> None:
    """Makes `count` logical devices of the CPU, to try replicas without GPUs.

    Args:
        count: int. At least 1.

    Raises:
        UserError: If TensorFlow has started already.
    """
    [cpu] = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError as error:
        raise UserError(f"--logical-devices: {error}") from None


def strategy(name: str = "auto") -> tf.distribute.Strategy:
    """The `tf.distribute` strategy that a config's `training.strategy` names.

    Args:
        name: string. `"none"`: TensorFlow's default device. `"mirrored"`: a replica
            on every GPU or, where there is none, on every logical CPU device.
            `"auto"`: `"mirrored"` if there are several GPUs, else `"none"`.

    Raises:
        ValueError: If there is no such strategy.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: {name!r}"
        )
    gpus = tf.config.list_logical_devices("GPU")
    if name == "none" or (name == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def is_chief() -> bool:
    """Whether this worker is the one that writes."""
    return True


def any_worker(flag: bool) -> bool:
    """Whether `flag` is true on any worker; all workers ask at the same step."""
    return flag


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


def sum_over_replicas(tensors: list[Any]) -> list[Any]:
    """The sum of all replicas' tensors, the same on every replica."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def mean_over_replicas(value: Any) -> Any:
    """The mean of all replicas' values, the same on every replica."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
