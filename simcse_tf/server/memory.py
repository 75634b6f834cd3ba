"""Gives memory back to the system after a large request."""

import contextlib
import ctypes


def trim() -> None:
    """Returns what is free to the system. The C library keeps it otherwise.

    Example:
    ```python
    await asyncio.to_thread(trim)
    ```
    """
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
