"""What replicas (devices) and workers (processes) compute together."""

import functools
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import tensorflow as tf

from simcse_tf.distributed import cluster
from simcse_tf.distributed.strategy import current_strategy, worker_count

# === The workers, each a process ===


def any_worker(flag: bool) -> bool:
    """Whether any worker's flag is set: every worker must call it at the same time.

    Example:

    ```python
    any_worker(received_sigterm)  # True on all workers if it is on one
    ```
    """
    return any(every_worker(int(flag)))


def every_worker(value: int) -> list[int]:
    """Every worker's value: every worker must call it at the same time.

    Example:

    ```python
    every_worker(step)  # [250, 250] on two workers
    ```
    """
    current = current_strategy()
    workers = worker_count(current)
    if current is None or workers == 1:
        return [value]
    rank = cluster.own_cluster().rank
    own = tf.one_hot(rank, workers, on_value=value, dtype=tf.int64)
    return _worker_sum(current)(own).numpy().tolist()


@functools.cache
def _worker_sum(strategy: tf.distribute.Strategy) -> Any:
    # One trace, and so one collective, however often it is called.
    return tf.function(
        lambda value: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
    )


# === The replicas, each a device ===


def logged(value: Any) -> Any:
    """A scalar as `train_step` returns it, to be shown by `fit`.

    Example:

    ```python
    return {"loss": logged(loss)}  # in `train_step`
    ```
    """
    # Keras averages each worker's logs over axis 0, which a scalar does not have
    # (https://github.com/keras-team/keras/issues/20585).
    several = worker_count(tf.distribute.get_strategy()) > 1
    return value[None] if several else value


def gather(embeddings: Any) -> Any:
    """All replicas' embeddings, in the order of the replicas; gradients flow.

    Args:
        embeddings: Tensor of shape `(n, dim)`, the same `n` on every replica. It may
            be int64 as well.

    Returns:
        Tensor of shape `(replicas * n, dim)`.

    Example:

    ```python
    candidates = gather(positives)  # (replicas * n, dim)
    ```
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return embeddings
    with tf.name_scope("gather_embeddings"):
        # Workers gather where a tensor is made; what a step is given is nowhere yet.
        gathered = context.all_gather(tf.identity(embeddings), axis=0)
    # It forgets the dimensions that it does not change.
    gathered.set_shape([None, *embeddings.shape[1:]])
    return gathered


def replica_offset(rows: Any) -> Any:
    """The row at which this replica's part starts in what `gather` returns.

    Example:

    ```python
    own = replica_offset(n) + tf.range(n)  # this replica's rows of `gather`
    ```
    """
    return tf.distribute.get_replica_context().replica_id_in_sync_group * rows


def sum_over_replicas(tensors: list[Any]) -> list[Any]:
    """The sum of all replicas' tensors, the same on every replica.

    Example:

    ```python
    gradients = sum_over_replicas(tape.gradient(loss, variables))
    ```
    """
    with tf.name_scope("sum_gradients"):
        return _all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def mean_over_replicas(value: Any) -> Any:
    """The mean of all replicas' values, the same on every replica.

    Example:

    ```python
    loss = mean_over_replicas(loss)
    ```
    """
    return _all_reduce(tf.distribute.ReduceOp.MEAN, value)


def _all_reduce(how: tf.distribute.ReduceOp, values: Any) -> Any:
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(how, values)


def assign(variables: Sequence[Any], tensors: Sequence[Any]) -> None:
    """Assigns tensors that are the same on every replica to every replica's variables.

    Args:
        variables: Keras variables.
        tensors: As many tensors.

    Example:

    ```python
    assign([queue], [collectives.gather(embeddings)])
    ```
    """
    # Keras' variables refuse to be assigned by a replica: it might be another value.
    tf.distribute.get_replica_context().merge_call(
        _assign_everywhere, args=(list(variables), list(tensors))
    )


def _assign_everywhere(
    strategy: tf.distribute.Strategy, variables: list[Any], tensors: list[Any]
) -> None:
    for variable, tensor in zip(variables, tensors, strict=True):
        strategy.extended.update(
            variable.value, lambda copy, value: copy.assign(value), args=(tensor,)
        )


def expect_summed_gradients(optimizer: Any) -> None:
    """Makes an optimizer take gradients that were summed over the replicas already.

    Keras clips each replica's gradient, looks in each for an overflow (the loss
    scale's), and sums afterwards, so that the step depends on the number of replicas
    and one that overflows spoils the others. A caller that sums first gives every
    replica the whole batch's gradient; the optimizer then must not sum again.
    (https://github.com/keras-team/keras/issues/18666 is a related problem.)

    Args:
        optimizer: A `keras.optimizers.Optimizer`.

    Raises:
        RuntimeError: If this Keras sums gradients elsewhere: they would be summed
            twice unnoticed.

    Example:

    ```python
    expect_summed_gradients(optimizer)
    optimizer.apply(sum_over_replicas(gradients), variables)  # in `train_step`
    ```
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not callable(getattr(inner, "_all_reduce_sum_gradients", None)):
        raise RuntimeError(
            f"Keras {version('keras')} sums gradients over replicas where simcse_tf "
            "does not expect it; Keras 3.12 to 3.15 are known to work"
        )
    inner._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
