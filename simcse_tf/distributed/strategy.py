"""The devices that a model trains on, as `tf.distribute` strategies."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.distributed import cluster

STRATEGIES = ("auto", "none", "mirrored", "multi_worker", "tpu")


def gpus() -> list[str]:
    """TensorFlow's names of the GPUs that this process computes on.

    Example:

    ```python
    gpus()  # ["GPU:0", "GPU:1"]
    ```
    """
    visible = tf.config.get_visible_devices("GPU")
    return [f"GPU:{number}" for number in range(len(visible))]


def split_cpu(count: int) -> None:
    """Makes `count` logical devices of the CPU, to try replicas without GPUs.

    Args:
        count: int. At least 1.

    Raises:
        UserError: If TensorFlow has started already.

    Example:

    ```python
    split_cpu(2)
    strategy_of("mirrored").num_replicas_in_sync  # 2, without GPUs
    ```
    """
    [cpu] = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError as error:
        raise UserError(f"--logical-devices: {error}") from None


def strategy_of(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy that a config's `training.strategy` names.

    `"multi_worker"` and `"tpu"` initialize TensorFlow, so no operation may have run
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
        UserError: If `TF_CONFIG` describes no cluster, or there is no such TPU.
        PeerLost: If a worker does not join within `cluster.JOIN_SECONDS`.

    Example:

    ```python
    with strategy_of("mirrored").scope():
        model = SimCSE.from_preset("bert_base_en_uncased")
    ```
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


def current_strategy() -> tf.distribute.Strategy | None:
    """The strategy that `strategy_of` made last in this process, if any.

    Example:

    ```python
    current_strategy()  # None before `strategy_of`
    ```
    """
    return _current


def is_chief() -> bool:
    """Whether this process is the one that writes and reports.

    Example:

    ```python
    if is_chief():
        model.save_to_preset("models/mine")
    ```
    """
    return _current is None or _current.extended.should_checkpoint


def worker_count(strategy: tf.distribute.Strategy | None) -> int:
    """How many processes a strategy spans.

    Example:

    ```python
    worker_count(strategy_of("mirrored"))  # 1
    ```
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return sum(len(tasks) for tasks in jobs.values())


@contextmanager
def lost_peers_reported() -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into `PeerLost`.

    TensorFlow notices within seconds: at once where a connection breaks, else by
    missing heartbeats.

    Example:

    ```python
    with lost_peers_reported():
        model.fit(batches, steps_per_epoch=100)
    ```
    """
    try:
        yield
    except tf.errors.OpError as error:
        if worker_count(_current) == 1 or not cluster.is_peer_failure(error):
            raise
        raise cluster.peer_lost(error) from error


# === Data ===


def distribute(
    strategy: tf.distribute.Strategy, batches: Callable[[int, range], tf.data.Dataset]
) -> Any:
    """A data set in which every worker makes only the part of its own replicas.

    Args:
        strategy: A `tf.distribute.Strategy`.
        batches: Function of the number of replicas and of the range of those that are
            this worker's. Returns a data set that gives each of these, in order,
            its part of the first step, then of the second, and so on.

    Returns:
        An endless data set for `fit`, which needs `steps_per_epoch` with it.

    Example:

    ```python
    batches = distribute(strategy, lambda replicas, own: dataset)
    model.fit(batches, steps_per_epoch=100)
    ```
    """

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        each = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * each
        # If the data set ended, the workers would have to agree at every step on
        # whether it has.
        dataset = batches(replicas, range(first, first + each)).repeat()
        return dataset.prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(make)
