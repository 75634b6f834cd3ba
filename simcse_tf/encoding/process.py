"""Settings of a process that only encodes. Needs no TensorFlow."""

import ctypes
import os

# The parameter's number in glibc's mallopt(3).
_M_ARENA_MAX = -8


def one_core_an_operation() -> None:
    """Runs each TensorFlow operation on one core, so that batches share the cores.

    A process that only encodes calls it before it imports TensorFlow.

    Example:

    ```python
    one_core_an_operation()  # sets TF_NUM_INTRAOP_THREADS to 1, if it is not set
    ```
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def share_heaps() -> None:
    """Keeps memory from growing with time, where the C library is glibc.

    Each thread would otherwise keep a heap of its own for the tensors that come and
    go, in more and more pieces.

    Example:

    ```python
    share_heaps()  # no more than two heaps from here on
    ```
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
