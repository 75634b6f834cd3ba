"""SIGTERM: a run saves its state, stops and can be resumed. SIGHUP is the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from simcse_tf.core.errors import Stopped

if TYPE_CHECKING:
    from simcse_tf.training.progress import Progress


def stopped(progress: Progress) -> Stopped:
    """Makes the `Stopped` of a run that SIGTERM ended.

    Example:

    ```python
    raise stopped(progress)
    ```
    """
    return Stopped(
        f"stopped by {signal_received()} after step {progress.step}: pass --resume to "
        "resume"
    )


def signal_received() -> str:
    """The name of the signal that came; SIGTERM where another process received it.

    Example:

    ```python
    signal_received()  # "SIGHUP"
    ```
    """
    handler = signal.getsignal(signal.SIGTERM)
    name = handler.received if isinstance(handler, Stop) else ""
    return name or "SIGTERM"


class Stop:
    """What SIGTERM does: it ends what is being done, or waits until it is asked for.

    Attributes:
        received: string. The name of the signal that came first; empty before.
        waits: bool. Whether it waits.
        advice: Function that returns how to go on after the end, for the user.

    Example:

    ```python
    with stopping() as stop:
        stop.advice = lambda: "the same command begins anew"
    ```
    """

    def __init__(self, waits: bool = False):
        self.received = ""
        self.waits = waits
        self.advice: Callable[[], str] = lambda: "the same command begins anew"

    def __call__(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received, signal.Signals(number).name
        # Not twice: the second one would hit what cleans up after the first.
        if not again and not self.waits:
            raise _Interrupted


class _Interrupted(BaseException):
    """No `Exception`: what is interrupted must not take it for an error of its own."""


@contextmanager
def stopping() -> Iterator[Stop]:
    """Ends the block with `Stopped` when SIGTERM comes, wherever it is.

    That is for blocks that lose nothing if they are cut off, such as loading.
    Kubernetes and spot machines send SIGTERM some seconds before they kill, a terminal
    that is closed sends SIGHUP. Under `nohup` SIGHUP is ignored. Only the main thread
    can receive them.

    Raises:
        Stopped: If it came.

    Example:

    ```python
    with stopping() as stop:
        model = load()
        with sigterm() as must_stop:
            train(model, must_stop)
    ```
    """
    stop = Stop()
    with _handled_by(stop):
        try:
            yield stop
        except BaseException as error:
            # On its way an import or TensorFlow may have made another exception of it.
            cut_off = isinstance(error, _Interrupted) or not stop.waits
            if not stop.received or not cut_off or isinstance(error, Stopped):
                raise
            raise Stopped(f"stopped by {stop.received}: {stop.advice()}") from None


@contextmanager
def sigterm() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGTERM has come.

    Within the block it waits until it is asked for; see `stopping`.

    Example:

    ```python
    with sigterm() as must_stop:
        while not must_stop():
            take_a_step()
    ```
    """
    outer = signal.getsignal(signal.SIGTERM)
    if not isinstance(outer, Stop):
        stop = Stop(waits=True)
        with _handled_by(stop):
            yield lambda: bool(stop.received)
        return
    outer.waits = True
    yield lambda: bool(outer.received)
    # After an error it goes on waiting: what is wrong matters more.
    outer.waits = False
    if outer.received:
        raise _Interrupted


@contextmanager
def _handled_by(stop: Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
        yield
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
