"""Settings of a process that only encodes. Needs no TensorFlow."""

import ctypes
import os

# Of glibc's mallopt(3).
_M_ARENA_MAX = -8


def one_core_an_operation() -> None:
    """Leaves the cores to batches side by side, which wait less for each other.

    For a process that only encodes, before it imports TensorFlow.
    """
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def share_heaps() -> None:
    """Keeps memory from growing with time, where the C library is glibc.

    Of the tensors that come and go each thread would keep a heap of its own, more and
    more of it in pieces.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
