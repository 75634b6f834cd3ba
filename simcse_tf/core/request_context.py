"""The request that is being answered: its id, its trace, and what is known of it."""

import contextlib
import contextvars
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# The names of headers in HTTP, and of metadata in gRPC.
REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_READ = (REQUEST_ID, TRACEPARENT, TRACESTATE)

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# What W3C's recommendation "Trace Context" takes. Version 00 has four fields, a later
# one may have more.
_IDS_AND_FLAGS = "-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_SANE_PARENT = re.compile(
    f"00{_IDS_AND_FLAGS}|(?!00|ff)[0-9a-f]{{2}}{_IDS_AND_FLAGS}(-[!-~]*)?"
)
_LONGEST_PARENT = 128
_SANE_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_LONGEST_STATE = 512
_MOST_MEMBERS = 32


@dataclass(eq=False, slots=True)
class Request:
    """A request that is being answered.

    Args:
        id: What logs and the answer call it.
        traceparent: The trace that it came with, or an empty string.
        tracestate: What other systems wrote beside it, or an empty string.

    Attributes:
        span: OpenTelemetry's span of it, where it is traced.
        status: How it ended: the name of gRPC's code, or HTTP's number.
        model: The model's name, once it is found.
        version: The version that answers.
        texts: How many rows it has.
        batch_texts: How many its batch had, other requests' included.
        queue_seconds: How long it waited for its batch.
        received_bytes: The size of its message or body.
        sent_bytes: The size of the answer's.

    Example:
    ```python
    request = Request("3f2a", traceparent="")
    with answering(request):
        ...
    ```
    """

    id: str
    traceparent: str = ""
    tracestate: str = ""
    span: Any = None
    status: str | int = ""
    model: str | None = None
    version: int | None = None
    texts: int | None = None
    batch_texts: int | None = None
    queue_seconds: float | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


_current: contextvars.ContextVar[Request | None] = contextvars.ContextVar(
    "simcse_tf_request", default=None
)


def current() -> Request | None:
    """Returns the request that is being answered here, if one is.

    Example:
    ```python
    if request := current():
        request.texts = 3
    ```
    """
    return _current.get()


def note(**facts: Any) -> None:
    """Keeps what became known of the current request, if there is one.

    Args:
        facts: Values by the names of `Request`'s attributes.

    Example:
    ```python
    note(model="simcse", version=1)
    ```
    """
    request = _current.get()
    if request:
        for name, value in facts.items():
            setattr(request, name, value)


@contextlib.contextmanager
def answering(request: Request) -> Iterator[None]:
    """Makes a request the current one until the block ends.

    Args:
        request: The request.

    Example:
    ```python
    with answering(received(http.headers.items())):
        current()
    ```
    """
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def received(headers: Iterable[tuple[str, str | bytes]]) -> Request:
    """Reads what a client says of its request, as far as it is sane.

    Args:
        headers: Names and values, of HTTP or of gRPC.

    Returns:
        The request, with an id of our own if the client has sent none.

    Reference:
        - [Trace Context](https://www.w3.org/TR/trace-context/)

    Example:
    ```python
    received([("x-request-id", "3f2a")]).id  # "3f2a"
    ```
    """
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in _READ and isinstance(value, str):
            # Twice the same header is one with a comma: right for a tracestate alone.
            found[key] = f"{found[key]},{value}" if key in found else value
    request = Request(sane_id(found.get(REQUEST_ID, "")) or os.urandom(16).hex())
    parent = found.get(TRACEPARENT, "").strip(" \t")
    if len(parent) <= _LONGEST_PARENT and _SANE_PARENT.fullmatch(parent):
        request.traceparent = parent
        request.tracestate = _sane_state(found.get(TRACESTATE, ""))
    return request


def sane_id(text: object) -> str:
    """Returns a request id of another program, or an empty string if it is none.

    Args:
        text: At most 128 letters, digits and the signs `._:/+=@-`.

    Example:
    ```python
    sane_id("forged\\nline")  # ""
    ```
    """
    return text if isinstance(text, str) and _SANE_ID.fullmatch(text) else ""


def _sane_state(text: str) -> str:
    if len(text) > _LONGEST_STATE:
        return ""
    members = [part for it in text.split(",") if (part := it.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    sane = all(map(_SANE_MEMBER.fullmatch, members))
    if not sane or len(keys) < len(members) or len(members) > _MOST_MEMBERS:
        return ""
    return ",".join(members)
