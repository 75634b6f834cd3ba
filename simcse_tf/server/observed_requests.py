"""Around every request, gRPC or HTTP: its id, its span and its line in the log."""

import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
from aiohttp import typedefs, web
from grpc_health.v1.health import SERVICE_NAME as HEALTH

from simcse_tf.core import logs, request_context, tracing
from simcse_tf.core.request_context import REQUEST_ID, Request
from simcse_tf.core.tracing import SERVER_ERRORS, Span
from simcse_tf.openai_api import paths
from simcse_tf.server.http_server import CLIENT_LEFT

# By what gRPC has returned as a code: itself or, in some versions, its number.
CODES = {key: it.name for it in grpc.StatusCode for key in (it, it.value[0])}

# Paths under this one are traced, and not the pages that monitoring reads.
API = "/v1/"
# What clients choose in a path is no part of a span's name.
MODEL_PATH = re.compile(
    r"/v1/models/[^/:]+(?P<version>/versions/\d+)?(?P<label>/labels/[^/:]+)?"
    r"(?P<rest>:predict|:classify|:regress|/metadata)?",
    re.I | re.A,
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
LONGEST_PATH = 200

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

access = logging.getLogger("simcse_tf.access")


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Observes gRPC requests but for health checks. The first of the interceptors.

    Those after it have to make streams of all methods, as `AdmissionInterceptor` does.

    Args:
        log: Whether each request gets a line in the log.

    Example:
    ```python
    interceptors = [ObservingInterceptor(log=False), AdmissionInterceptor()]
    ```
    """

    def __init__(self, log: bool):
        self._log = log

    async def intercept_service(
        self, continuation: Any, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wraps a method."""
        handler = await continuation(details)
        method = details.method.lstrip("/")
        if handler is None or not handler.stream_unary or method.startswith(HEALTH):
            return handler
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}

        async def answer(messages: Any, context: grpc.aio.ServicerContext) -> Any:
            request = request_context.received(details.invocation_metadata or ())
            context.set_trailing_metadata(((REQUEST_ID, request.id),))
            with _observed(method, request, attributes, self._log, rpc=method):
                request.status = "CANCELLED"  # which is no Exception
                try:
                    response = await handler.stream_unary(messages, context)
                except Exception:
                    request.status = CODES.get(context.code(), "UNKNOWN")
                    raise
                request.status = "OK"
                if isinstance(response, bytes):
                    request.sent_bytes = len(response)
                return response

        return grpc.stream_unary_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )


def observing_middleware(log: bool) -> typedefs.Middleware:
    """Makes what observes HTTP requests. The first of the middlewares.

    Args:
        log: Whether each request gets a line in the log.

    Example:
    ```python
    await rest.start(catalog, host, port, middlewares=[observing_middleware(False)])
    ```
    """

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        observed = request_context.received(request.headers.items())
        path = request.rel_url.raw_path[:LONGEST_PATH]
        span, attributes = _http_span(request, path)
        told = {"method": request.method, "path": path}
        with _observed(span, observed, attributes, log, **told):
            observed.status = CLIENT_LEFT  # a cancellation is no Exception
            try:
                response = await handler(request)
            except Exception:
                observed.status = 500
                raise
            finally:
                observed.received_bytes = request.content.total_bytes
            observed.status = response.status
            observed.sent_bytes = response.content_length
            if not response.prepared:
                response.headers[REQUEST_ID] = observed.id
            return response

    return observe


@contextlib.contextmanager
def _observed(
    name: str, request: Request, attributes: dict[str, Any], log: bool, **what: str
) -> Iterator[None]:
    """Without a name there is no span."""
    start = time.monotonic()
    traced = tracing.server_span(name, request, attributes)
    with (
        request_context.answering(request),
        traced if name else contextlib.nullcontext(Span()) as span,
    ):
        try:
            yield
        finally:
            if span.recorded:
                span.set(_attributes(request))
                if _is_our_fault(request.status):
                    span.failed(str(request.status))
            if log:
                milliseconds = round(1000 * (time.monotonic() - start), 3)
                _write(request, milliseconds, what)


def _is_our_fault(status: str | int) -> bool:
    return status >= 500 if isinstance(status, int) else status in SERVER_ERRORS


def _attributes(request: Request) -> dict[str, Any]:
    protocol = "http" if isinstance(request.status, int) else "rpc"
    return {
        f"{protocol}.response.status_code": request.status,
        "simcse.request_id": request.id,
        "simcse.model.name": request.model,
        "simcse.model.version": request.version,
        "simcse.texts": request.texts,
        "simcse.batch.texts": request.batch_texts,
        "simcse.queue.seconds": request.queue_seconds,
    }


def _write(request: Request, milliseconds: float, what: dict[str, str]) -> None:
    """Writes a line of the access log: names and numbers, never what was sent."""
    fields = {
        **what,
        "status": request.status,
        "milliseconds": milliseconds,
        "model": request.model,
        "version": request.version,
        "texts": request.texts,
        "batch_texts": request.batch_texts,
        "received_bytes": request.received_bytes,
        "sent_bytes": request.sent_bytes,
    }
    access.info("answered", extra={logs.FIELDS: fields})


def _http_span(http: web.BaseRequest, path: str) -> tuple[str, dict[str, Any]]:
    """The name of a request's span and what it begins with; no name for no span."""
    if not path.lower().startswith(API):
        return "", {}
    method = http.method if http.method in METHODS else "_OTHER"
    attributes = {
        "http.request.method": method,
        "url.path": path,
        "url.scheme": http.scheme,
    }
    route = _route(path)
    if not route:
        return method, attributes
    return f"{method} {route}", {**attributes, "http.route": route}


def _route(path: str) -> str:
    if path in paths.ALL:
        return path
    match = MODEL_PATH.fullmatch(path)
    if not match:
        return ""
    version = "/versions/{version}" if match["version"] else ""
    label = "/labels/{label}" if match["label"] else ""
    return f"/v1/models/{{model}}{version}{label}{(match['rest'] or '').lower()}"
