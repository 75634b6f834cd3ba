"""The devices that a model trains on, and what its replicas tell each other."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from simcse_tf import cluster
from simcse_tf.errors import UserError

STRATEGIES = ("auto", "none", "mirrored", "multi_worker", "tpu")


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


def strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy that a config's `training.strategy` names.

    `"multi_worker"` and `"tpu"` start TensorFlow anew: nothing of it may have run
    before.

    Args:
        name: string. `"none"`: TensorFlow's default device. `"mirrored"`: a replica
            on every GPU or, where there is none, on every logical CPU device.
            `"auto"`: `"mirrored"` if there are several GPUs, else `"none"`.
            `"multi_worker"`: as `"mirrored"`, on every worker that `TF_CONFIG`
            names; waits until all have joined. `"tpu"`: a replica on every core.
        tpu: Optional string. What `TPUClusterResolver` takes; for `"tpu"`.

    Raises:
        ValueError: If there is no such strategy.
        UserError: If `TF_CONFIG` is no cluster's, or there is no such TPU.
        PeerLost: If a worker does not join within `cluster.JOIN_SECONDS`.
    """
    global _current
    _current = _make_strategy(name, tpu)
    return _current


def _make_strategy(name: str, tpu: str | None) -> tf.distribute.Strategy:
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: {name!r}"
        )
    if name == "multi_worker":
        return cluster.join(cluster.own_cluster())
    if name == "tpu":
        return _connect_tpu(tpu)
    gpus = tf.config.list_logical_devices("GPU")
    if name == "none" or (name == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _connect_tpu(name: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(name)
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UserError(f"training.tpu: cannot use TPU {name!r}: {error}") from error
    return tf.distribute.TPUStrategy(resolver)


# === The workers, each a process ===

# A process has one strategy, since TensorFlow has one cluster a process.
_current: tf.distribute.Strategy | None = None


def is_chief() -> bool:
    """Whether this process is the one that writes and reports."""
    return _current is None or _current.extended.should_checkpoint


def any_worker(flag: bool) -> bool:
    """Whether any worker's flag is set: every worker must ask at the same time."""
    return any(every_worker(int(flag)))


def every_worker(value: int) -> list[int]:
    """Every worker's value: every worker must ask at the same time."""
    workers = worker_count(_current)
    if _current is None or workers == 1:
        return [value]
    rank = cluster.own_cluster().rank
    own = tf.one_hot(rank, workers, on_value=value, dtype=tf.int64)
    return _worker_sum(_current)(own).numpy().tolist()


@functools.cache
def _worker_sum(strategy: tf.distribute.Strategy) -> Any:
    # One trace, and so one collective, however often it is asked.
    return tf.function(
        lambda value: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
    )


def worker_count(strategy: tf.distribute.Strategy | None) -> int:
    """How many processes a strategy spans."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return sum(len(tasks) for tasks in jobs.values())


@contextmanager
def lost_peers_told() -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into `PeerLost`.

    TensorFlow notices within seconds: at once where a connection breaks, else by
    missing heartbeats.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if worker_count(_current) == 1 or not cluster.tells_of_peer(error):
            raise
        raise cluster.peer_lost(error) from error


# === Data ===


def distribute(
    strategy: tf.distribute.Strategy, batches: Callable[[int, range], tf.data.Dataset]
) -> Any:
    """A data set of which every worker makes only its own replicas' part.

    Args:
        strategy: A `tf.distribute.Strategy`.
        batches: Function of how many replicas there are and of which of them are
            this worker's. Returns a data set that gives each of these, in order,
            its part of the first step, then of the second, and so on.

    Returns:
        What `fit` takes, without an end: say how many steps to run.
    """

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        each = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * each
        # Of a data set that ends, workers would ask each other at every step whether
        # it has.
        dataset = batches(replicas, range(first, first + each)).repeat()
        return dataset.prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(make)


# === The replicas, each a device ===


def logged(value: Any) -> Any:
    """A scalar as `train_step` returns it, to be shown by `fit`."""
    # Keras averages each worker's logs over axis 0, which a scalar does not have
    # (https://github.com/keras-team/keras/issues/20585).
    several = worker_count(tf.distribute.get_strategy()) > 1
    return value[None] if several else value


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
    with tf.name_scope("gather_embeddings"):
        return context.all_gather(embeddings, axis=0)


def replica_offset(rows: Any) -> Any:
    """The row at which this replica's part starts in what `gather` returns."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group * rows


def sum_over_replicas(tensors: list[Any]) -> list[Any]:
    """The sum of all replicas' tensors, the same on every replica."""
    with tf.name_scope("sum_gradients"):
        return _all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def mean_over_replicas(value: Any) -> Any:
    """The mean of all replicas' values, the same on every replica."""
    return _all_reduce(tf.distribute.ReduceOp.MEAN, value)


def _all_reduce(how: tf.distribute.ReduceOp, values: Any) -> Any:
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(how, values)
