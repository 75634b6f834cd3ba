"""One of several processes on this machine: `python -m simcse_tf.pipelines.worker`.

Beam's own worker, with threads and an end of its own.
"""

import ctypes
import logging
import os
import signal
import sys
from typing import Any

# Linux' prctl(2).
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Works until Beam has no more to do, or the process that started it ends.

    The one argument says how many threads TensorFlow may use.

    Example:

    ```bash
    python -m simcse_tf.pipelines.worker 1
    ```
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", sys.argv[1])
    # What goes wrong is in the answer to Beam's runner as well.
    logging.disable(logging.CRITICAL)
    from apache_beam.runners.worker import sdk_worker_main

    work: Any = sdk_worker_main.main
    work(sys.argv)


if __name__ == "__main__":
    main()
