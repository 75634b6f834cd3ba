"""Keeps TensorFlow's start-up notices away from the one line that a user needs."""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


def hide_startup_notices() -> None:
    """Hides what TensorFlow writes to stderr while it is imported.

    TensorFlow 2.21 prints notices at that moment, whatever `TF_CPP_MIN_LOG_LEVEL` says.
    They are hidden where that level hides notices, and shown if the import fails.

    Example:

    ```python
    hide_startup_notices()
    import tensorflow  # silent
    ```
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0":
        return
    if not any(isinstance(finder, _QuietTensorFlow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietTensorFlow())


class _QuietTensorFlow:
    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_quietly(module: ModuleType) -> None:
            with _held_stderr():
                load(module)

        spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Keeps what is written to file descriptor 2, to show it if the block raises."""
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with tempfile.TemporaryFile() as held, os.fdopen(stderr, "wb") as shown:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            shutil.copyfileobj(held, shown)
            raise
        finally:
            os.dup2(shown.fileno(), 2)
