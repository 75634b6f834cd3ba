"""SIGTERM: a run saves its state, stops and can be resumed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simcse_tf.core.errors import Stopped
from simcse_tf.training.checkpoint import Progress


def stopped(progress: Progress) -> Stopped:
    """Makes the `Stopped` of a run that SIGTERM ended.

    Example:

    ```python
    raise stopped(progress)
    ```
    """
    return Stopped(
        f"stopped by SIGTERM after step {progress.step}: pass --resume to resume"
    )


@contextmanager
def sigterm() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGTERM has come.

    Kubernetes and spot machines send it some seconds before they kill. Only the
    main thread can receive it.

    Example:

    ```python
    with sigterm() as must_stop:
        while not must_stop():
            take_a_step()
    ```
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(
        signal.SIGTERM, lambda number, frame: received.append(number)
    )
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
