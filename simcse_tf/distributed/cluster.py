"""A cluster of workers: who they are, how they join, how a lost one is noticed."""

import faulthandler
import os
import socket
import time
from typing import NamedTuple

import tensorflow as tf

from simcse_tf.core.errors import PeerLost, UserError
from simcse_tf.core.json_files import parse_json, shortened

# How long a worker waits for the others to start.
JOIN_SECONDS = 600
_CONNECT_SECONDS = 5

_TF_CONFIG_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """The workers, each as host and port, and which of them this process is."""

    workers: list[tuple[str, int]]
    rank: int


def own_cluster() -> Cluster:
    """The cluster that the environment variable `TF_CONFIG` describes.

    Raises:
        UserError: If there is none, or it is malformed.

    Example:

    ```python
    own_cluster().workers  # [("host0", 2222), ("host1", 2222)]
    ```
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = parse_json(text, "TF_CONFIG")
        jobs, task = config["cluster"], config["task"]
        if not set(jobs) <= {"chief", "worker"}:
            raise ValueError("a cluster has workers and at most one chief")
        chiefs = jobs.get("chief", [])
        workers = [
            (host, int(port))
            for host, _, port in (
                address.rpartition(":") for address in chiefs + jobs["worker"]
            )
        ]
        if len(set(workers)) < len(workers):
            raise ValueError("two workers have one address")
        if task["index"] not in range(len(jobs[task["type"]])):
            raise ValueError(f"there is no {task['type']} {task['index']}")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"training.strategy multi_worker: expected the environment variable "
            f"TF_CONFIG to be like {_TF_CONFIG_EXAMPLE}, received "
            f"{shortened(text) or 'nothing'} ({type(error).__name__}: {error})"
        ) from None
    before = len(chiefs) if task["type"] == "worker" else 0
    return Cluster(workers, before + task["index"])


def join(cluster: Cluster) -> tf.distribute.Strategy:
    """Waits for all workers of a cluster and starts TensorFlow among them.

    Raises:
        UserError: If this worker's port cannot be used.
        PeerLost: If a worker does not join within `JOIN_SECONDS`.

    Example:

    ```python
    strategy = join(own_cluster())
    ```
    """
    _await_workers(cluster)
    # TensorFlow holds the interpreter until all have joined, for up to an hour. If a
    # worker dies now, this watchdog ends the wait: it needs no interpreter.
    faulthandler.dump_traceback_later(JOIN_SECONDS, exit=True)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise peer_lost(error) from error
    finally:
        faulthandler.cancel_dump_traceback_later()


def _await_workers(cluster: Cluster) -> None:
    """Waits until every worker listens. Meanwhile this one listens on its own port."""
    deadline = time.monotonic() + JOIN_SECONDS
    port = cluster.workers[cluster.rank][1]
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except (OSError, OverflowError) as error:
        raise UserError(f"TF_CONFIG: cannot listen on port {port}: {error}") from None
    with server:
        for index, address in enumerate(cluster.workers):
            while index != cluster.rank and not _listens(address):
                if time.monotonic() > deadline:
                    raise PeerLost(
                        f"worker {index} of TF_CONFIG ({address[0]}:{address[1]}) has "
                        f"not joined within {JOIN_SECONDS} seconds: start all workers"
                    )
                time.sleep(0.2)


def _listens(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


def is_peer_failure(error: tf.errors.OpError) -> bool:
    """Whether another worker's end caused an error of TensorFlow's.

    Example:

    ```python
    is_peer_failure(tf.errors.UnavailableError(None, None, "reset"))  # True
    ```
    """
    # The error has the code of the first failure. After a peer has restarted, for
    # example, that is a failed precondition.
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError)
    return isinstance(error, kinds) or "Collective ops is aborted" in error.message


def peer_lost(error: tf.errors.OpError) -> PeerLost:
    """Describes `error` in one line, with what to do about it.

    Example:

    ```python
    raise peer_lost(error) from error
    ```
    """
    reason = " ".join(error.message.split())
    return PeerLost(
        f"lost worker(s) of the cluster ({reason[:300]}): start all workers again with "
        "--resume"
    )
