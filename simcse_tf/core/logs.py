"""Log lines on stderr: as text, or as one JSON object a line. Nobody can forge one."""

import datetime
import json
import logging
from typing import Any

from simcse_tf.core import request_context, tracing
from simcse_tf.core.printing import printable

FORMATS = ("text", "json")
# A record's attribute that holds fields beside its message: `extra={FIELDS: {...}}`.
FIELDS = "simcse_fields"


def set_up(log_format: str) -> None:
    """Makes our loggers write to stderr, unless the program has set up logging.

    Args:
        log_format: "text" or "json".

    Example:
    ```python
    set_up("json")
    ```
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("simcse_tf").setLevel(logging.INFO)


class TextLines(logging.Formatter):
    """Time, level, logger, message and fields, and inside a request its id.

    A control character stands as an escape. The lines of a traceback are indented, so
    that none looks like another record.

    Example:
    ```python
    handler.setFormatter(TextLines())
    ```
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record's first line."""
        line = super().formatMessage(record)
        for key, value in _fields(record).items():
            line += f" {key}={value}"
        if request := request_context.current():
            line += f" [request {request.id}]"
        return printable(line).replace("\n", "\\n")

    def formatException(self, ei: Any) -> str:
        """A traceback's lines."""
        return "    " + printable(super().formatException(ei)).replace("\n", "\n    ")


class JsonLines(logging.Formatter):
    """One JSON object a line.

    It has time (RFC 3339, UTC), level, logger and message, inside a request
    `request_id`, `trace_id` and `span_id` as well, and what the record has under
    `FIELDS`. A traceback is a string, `exception`.

    Example:
    ```python
    handler.setFormatter(JsonLines())
    ```
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        request = request_context.current()
        trace_id, span_id = tracing.ids()
        line = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request.id if request else None,
            "trace_id": trace_id or None,
            "span_id": span_id or None,
            "exception": self.formatException(record.exc_info)
            if record.exc_info
            else None,
            **_fields(record),
        }
        # In ASCII: whatever ends a line or is no Unicode stands as an escape.
        return json.dumps({key: it for key, it in line.items() if it is not None})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, FIELDS, {})
    return {key: value for key, value in fields.items() if value is not None}
