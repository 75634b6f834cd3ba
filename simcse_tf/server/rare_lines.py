"""Keeps a log short when strangers cause the same line again and again."""

import logging
import math
import time

SECONDS = 60.0
KINDS = 1000  # of lines that are remembered


class RareLines(logging.Filter):
    """Lets one line of a kind pass a minute; the next one says how many were left out.

    Lines are of a kind if they have the same text before their arguments are filled in,
    and the same type of exception.

    Example:
    ```python
    logging.getLogger("aiohttp.server").addFilter(RareLines())
    ```
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decides about one line."""
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.msg, error)
        now = time.monotonic()
        written, left_out = self._kinds.get(kind, (-math.inf, 0))
        if now - written < SECONDS:
            self._kinds[kind] = (written, left_out + 1)
            return False
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now, 0)
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more since the last line)"
            record.args = ()
        return True
