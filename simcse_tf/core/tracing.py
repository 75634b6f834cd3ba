"""OpenTelemetry's spans and W3C's trace context, for whoever has set them up.

OpenTelemetry is used where the program has imported it and set a provider, and else not
imported: nobody has said where spans should go.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simcse_tf.core import request_context
from simcse_tf.core.request_context import REQUEST_ID, TRACEPARENT, TRACESTATE, Request

API = "opentelemetry.trace"
Attributes = Mapping[str, Any]

# A client's fault, or nobody's: the codes that are no error of a server's span.
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
SERVER_ERRORS = (
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
)


class Span:
    """A span, or none.

    Args:
        span: OpenTelemetry's. None for a span that does nothing.

    Example:
    ```python
    with client_span("package.Service/Method", {}) as span:
        span.set({"simcse.texts": 3})
    ```
    """

    def __init__(self, span: Any = None):
        self._span = span

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it."""
        return self._span is not None and self._span.is_recording()

    def set(self, attributes: Attributes) -> None:
        """Adds attributes; None is left out."""
        if self._span is not None:
            self._span.set_attributes(
                {key: it for key, it in attributes.items() if it is not None}
            )

    def event(self, name: str, attributes: Attributes) -> None:
        """Adds an event that happens now."""
        if self._span is not None:
            self._span.add_event(name, attributes)

    def failed(self, kind: str) -> None:
        """Marks it as failed.

        Args:
            kind: A name out of few, such as that of a status. No message, which may
                quote what a client has sent.
        """
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR)


@contextlib.contextmanager
def server_span(name: str, request: Request, attributes: Attributes) -> Iterator[Span]:
    """The span of a request that is being answered, a child of the client's.

    Args:
        name: Its name: the method, without what clients make up.
        request: Gets the span as `span`.
        attributes: What is known of it from the start.

    Example:
    ```python
    with server_span("package.Service/Method", request, {}) as span:
        ...
    ```
    """
    tracer = _tracer()
    if tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind

    parent = _received_context(request)
    with _current_span(tracer, name, parent, SpanKind.SERVER, attributes) as span:
        request.span = span
        yield Span(span)


@contextlib.contextmanager
def client_span(name: str, attributes: Attributes) -> Iterator[Span]:
    """The span of a request that is sent, a child of the current one.

    Args:
        name: As for `server_span`.
        attributes: As for `server_span`.

    Example:
    ```python
    with client_span("package.Service/Method", {}):
        metadata = outgoing_headers()
    ```
    """
    tracer = _tracer()
    if tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind

    with _current_span(tracer, name, None, SpanKind.CLIENT, attributes) as span:
        yield Span(span)


@contextlib.contextmanager
def batch_span(
    waited: Sequence[tuple[Request | None, float]], texts: int
) -> Iterator[None]:
    """The computation of a batch, which may serve several requests.

    The span is a child of the first request that is recorded, since whether it is
    recorded follows from its parent, and it is linked with all of them, to and fro.
    Each of them has a span `queue` for the time before.

    Args:
        waited: The requests, and the seconds since each came.
        texts: How many rows the requests have together.

    Example:
    ```python
    with batch_span([(request, 0.002)], texts=3):
        ...
    ```
    """
    for request, seconds in waited:
        if request:
            request.batch_texts, request.queue_seconds = texts, seconds
    recorded = [
        (request.span, seconds)
        for request, seconds in waited
        if request and Span(request.span).recorded
    ]
    tracer = _tracer()
    if tracer is None or not recorded:
        yield
        return
    from opentelemetry.trace import Link, SpanKind, set_span_in_context

    now = time.time_ns()
    for span, seconds in recorded:
        start = now - int(seconds * 1e9)
        parent = set_span_in_context(span)
        tracer.start_span("queue", parent, start_time=start).end(now)
    parent = set_span_in_context(recorded[0][0])
    links = [Link(span.get_span_context()) for span, _ in recorded]
    attributes = {"simcse.batch.texts": texts, "simcse.batch.requests": len(waited)}
    with _current_span(
        tracer, "batch", parent, SpanKind.INTERNAL, attributes, links
    ) as batch:
        for span, _ in recorded:
            span.add_link(batch.get_span_context())
        try:
            yield
        except Exception as error:
            Span(batch).failed(type(error).__name__)
            raise


def outgoing_headers() -> tuple[tuple[str, str], ...]:
    """Returns what a request that is sent from here has to say of itself.

    Returns:
        Names and values: the id of the request that is being answered, and the
        current span, or the trace that the request came with.

    Example:
    ```python
    await call(message, metadata=outgoing_headers())
    ```
    """
    request = request_context.current()
    headers = {REQUEST_ID: request.id} if request else {}
    if _tracer():
        _propagator().inject(headers)
    if request and request.traceparent and TRACEPARENT not in headers:
        headers[TRACEPARENT] = request.traceparent
        if request.tracestate:
            headers[TRACESTATE] = request.tracestate
    return tuple(headers.items())


def ids() -> tuple[str, str]:
    """Returns the ids of the current trace and span in hexadecimal, or empty strings.

    Example:
    ```python
    trace_id, span_id = ids()
    ```
    """
    if _tracer():
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return (
                trace.format_trace_id(context.trace_id),
                trace.format_span_id(context.span_id),
            )
    request = request_context.current()
    if request and request.traceparent:
        _, trace_id, span_id, *_ = request.traceparent.split("-")
        return trace_id, span_id
    return "", ""


def _tracer() -> Any:
    if API not in sys.modules:
        return None
    # Imported even so: another thread may be in the middle of it.
    from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

    provider = get_tracer_provider()
    # A proxy stands for one that nobody has set yet.
    return None if isinstance(provider, ProxyTracerProvider) else _tracer_of(provider)


@functools.lru_cache(1)
def _tracer_of(provider: Any) -> Any:
    return provider.get_tracer("simcse_tf")


@functools.cache
def _propagator() -> Any:
    from opentelemetry.trace.propagation import tracecontext

    return tracecontext.TraceContextTextMapPropagator()


def _received_context(request: Request) -> Any:
    from opentelemetry.context import Context

    headers = {TRACEPARENT: request.traceparent, TRACESTATE: request.tracestate}
    return _propagator().extract(headers, Context())


def _current_span(
    tracer: Any,
    name: str,
    parent: Any,
    kind: Any,
    attributes: Attributes,
    links: Sequence[Any] = (),
) -> Any:
    # Exceptions are not recorded: their messages may quote what clients send.
    return tracer.start_as_current_span(
        name,
        parent,
        kind,
        attributes,
        links,
        record_exception=False,
        set_status_on_exception=False,
    )
