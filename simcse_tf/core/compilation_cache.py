"""Where XLA keeps what it has compiled for a GPU. Needs no TensorFlow."""

import os
from importlib.metadata import version
from pathlib import Path

_FLAG = "--tf_xla_persistent_cache_directory"


def keep_compiled() -> None:
    """Keeps what XLA compiles for GPUs, so that the next process need not wait for it.

    It goes to `simcse_tf/xla` in the user's cache directory, unless `TF_XLA_FLAGS`
    names another one. A process calls it before it imports TensorFlow.

    Example:

    ```python
    keep_compiled()  # ~/.cache/simcse_tf/xla/tensorflow-2.20.0
    ```
    """
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if _FLAG in flags:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(caches, "simcse_tf", "xla", f"tensorflow-{version('tensorflow')}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        # A user without a home compiles every time.
        return
    kept = f"{_FLAG}={directory} --tf_xla_persistent_cache_device_types=GPU"
    os.environ["TF_XLA_FLAGS"] = f"{flags} {kept}".strip()
