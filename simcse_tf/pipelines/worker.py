"""One of several processes on this machine: Beam's worker, with an end of its own."""

import ctypes
import logging
import os
import signal
import sys
from typing import Any

from simcse_tf.encoding.process import one_core_an_operation

# Linux' prctl(2).
_PR_SET_PDEATHSIG = 1


def work(threads: int) -> None:
    """Works until Beam has no more to do, or the process that started this one ends.

    Args:
        threads: int. Operations of TensorFlow that run side by side, each on one core.

    Example:

    ```bash
    python -c "from simcse_tf.pipelines.worker import work; work(1)"
    ```
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    one_core_an_operation()
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(threads))
    # What goes wrong is in the answer to Beam's runner as well.
    logging.disable(logging.CRITICAL)
    from apache_beam.runners.worker import sdk_worker_main

    main: Any = sdk_worker_main.main
    main(sys.argv)
