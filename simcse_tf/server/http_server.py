"""Speaks HTTP, within limits: aiohttp on the connections of `connections`."""

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from simcse_tf.server.connections import Connection, Connections, Limits
from simcse_tf.server.rare_lines import RareLines

# The status of a request whose client has left, as nginx counts it.
CLIENT_LEFT = 499

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HANDLER_OPTIONS: dict[str, Any] = {
    # Of the head of a request: its lines, and the bytes of each.
    "max_headers": 64,
    "max_line_size": 4096,
    "max_field_size": 4096,
    # So long the rest of a body that was refused is read and dropped, in seconds: a
    # client that still sends would not see the answer.
    "lingering_time": 2.0,
    # `request_body` does it, within its limits.
    "auto_decompress": False,
    # A client that leaves takes its request out of the queue.
    "handler_cancellation": True,
    "access_log": None,
}

# Where strangers may cause lines.
STRANGERS_LOGS = (
    "aiohttp.server",
    "asyncio",
    "simcse_tf.server.connections",
    "simcse_tf.server.request_body",
    "simcse_tf.server.status_errors",
)
RARE_LINES = RareLines()


async def serve(
    answer: Handler,
    host: str,
    port: int,
    limits: Limits,
    tls: ssl.SSLContext | None = None,
) -> Callable[[float], Awaitable[None]]:
    """Starts to answer HTTP requests in the running event loop.

    Args:
        answer: Answers a request. What it leaves unread of the body is not read.
        host: Name or address to listen on.
        port: Port to listen on.
        limits: How many connections are kept, and for how long.
        tls: Certificates to answer HTTPS with, instead of HTTP.

    Returns:
        A function that stops it: it stops listening and finishes the requests that
        are running, for at most the given seconds.

    Raises:
        OSError: The address cannot be listened on.

    Example:
    ```python
    stop = await serve(api.answer, "127.0.0.1", 8501, Limits())
    await stop(20.0)
    ```
    """
    logging.getLogger("aiohttp.server").addFilter(_is_of_interest)
    for name in STRANGERS_LOGS:
        logging.getLogger(name).addFilter(RARE_LINES)
    server = web.Server(
        functools.partial(_answer_or_close, answer),
        # The limit is that of `Connections`. This one has to be later.
        keepalive_timeout=2 * limits.wait_seconds,
        **HANDLER_OPTIONS,
    )
    accepting = Connections(server, limits, tls)
    try:
        await accepting.listen(host, port)
    except OSError:
        await accepting.close()
        raise
    return functools.partial(_stop, accepting, server)


def connection_of(request: web.BaseRequest) -> Connection:
    """Returns the connection that a request came over.

    Args:
        request: The request.

    Raises:
        ConnectionError: The client has left.

    Example:
    ```python
    with connection_of(request).working():
        ...
    ```
    """
    connection = request.transport.get_protocol() if request.transport else None
    if not isinstance(connection, Connection):
        raise ConnectionResetError("the client has left")
    return connection


async def _answer_or_close(
    answer: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    with contextlib.suppress(ConnectionError):
        connection_of(request).head_is_complete()
    response = await answer(request)
    if not request.content.is_eof() or request.content.exception():
        response.force_close()
    return response


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Leaves out the tracebacks of what is no HTTP."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (web.RequestPayloadError, HttpProcessingError))


async def _stop(accepting: Connections, server: web.Server, grace: float) -> None:
    await accepting.close()
    await asyncio.sleep(0)  # what has arrived begins to be answered
    server.pre_shutdown()
    # aiohttp may wait twice as long.
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(server.shutdown(grace), grace)
