"""OpenTelemetry's SDK, with spans kept in memory, and a collector on loopback."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SECONDS = 30

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: E402

__all__ = ["SpanExportResult", "SpanExporter", "collector", "kept_spans"]


@contextlib.contextmanager
def collector():
    """Yields a collector's address and a function that gives the spans it received.

    The function returns for each span its service's name and the span.
    """
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    found = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                names = {it.key: it.value for it in resource.resource.attributes}
                service = names["service.name"].string_value
                for scope in resource.scope_spans:
                    found.extend((service, span) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", lambda: found
    finally:
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()


def kept_spans(monkeypatch):
    """Makes tracing record into an exporter of its own until the test ends."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter,
    )

    from simcse_tf.core import tracing

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("simcse_tf")
    # A process has one provider for good, and this one runs other tests as well.
    monkeypatch.setattr(tracing, "_tracer", lambda: tracer)
    return exporter, tracer
