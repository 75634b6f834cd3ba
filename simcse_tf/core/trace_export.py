"""Sends a command's spans where OpenTelemetry's environment variables say."""

import logging
import os
import re
import threading
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from simcse_tf.core.errors import UserError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
DEFAULT_ENDPOINT = "http://localhost:4318"

# What OpenTelemetry begins the name of a service with that has none.
UNKNOWN = "unknown_service"

logger = logging.getLogger(__name__)


def start(service: str, version: str) -> Callable[[float], None]:
    """Sets up OpenTelemetry for this process.

    Args:
        service: The service's name where the environment gives none.
        version: The service's version.

    Returns:
        A function that sends the spans that wait, for at most so many seconds, and
        ends it.

    Raises:
        UserError: A variable is wrong.

    Example:
    ```python
    stop = start("simcse-serve", "1.0")
    stop(3.0)
    ```
    """
    try:
        exporter = TellingExporter(OTLPSpanExporter())
        processor = BatchSpanProcessor(exporter)
    except ValueError as error:
        raise UserError(f"--tracing: OTEL_...: {error}") from error
    resource = Resource.create({SERVICE_VERSION: version})
    if str(resource.attributes[SERVICE_NAME]).startswith(UNKNOWN):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    # Its own end would wait for a collector that does not answer.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)

    def stop(seconds: float) -> None:
        thread = threading.Thread(target=provider.shutdown, daemon=True)
        thread.start()
        thread.join(seconds)

    return stop


class TellingExporter(SpanExporter):
    """Says once that spans are lost, and once that they are sent again.

    Args:
        exporter: What sends them.

    Example:
    ```python
    processor = BatchSpanProcessor(TellingExporter(OTLPSpanExporter()))
    ```
    """

    def __init__(self, exporter: SpanExporter):
        self._exporter = exporter
        self._fails = False
        # It has a line for every attempt, of which one is worth telling.
        self._reason = _FirstMessage()
        theirs = logging.getLogger("opentelemetry.exporter")
        theirs.handlers, theirs.propagate = [self._reason], False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans, in the processor's thread."""
        self._reason.message = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # a certificate that is no file, for instance
            self._reason.message = str(error)
            result = SpanExportResult.FAILURE
        self._tell(result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Gives up what is being sent."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Does nothing: no span waits here."""
        return self._exporter.force_flush(timeout_millis)

    def _tell(self, fails: bool) -> None:
        if fails and not self._fails:
            logger.warning(
                "the collector at %s takes no spans, they are lost until it does: %s",
                _endpoint(),
                self._reason.message,
            )
        elif self._fails and not fails:
            logger.warning("the collector at %s takes spans again", _endpoint())
        self._fails = fails
        # Meanwhile it warns again and again that its queue is full.
        level = logging.ERROR if fails else logging.NOTSET
        logging.getLogger("opentelemetry.sdk").setLevel(level)


class _FirstMessage(logging.Handler):
    message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = self.message or record.getMessage()


def check_environment() -> None:
    """Refuses what the exporter would fail at, or ignore, later.

    Raises:
        UserError: A variable names another protocol, or no URL.

    Example:
    ```python
    check_environment()
    ```
    """
    for name in PROTOCOLS:
        if os.environ.get(name, PROTOCOL) != PROTOCOL:
            raise UserError(f"{name}: expected {PROTOCOL}, received {os.environ[name]}")
    for name in ENDPOINTS:
        endpoint = os.environ.get(name, "")
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise UserError(
                f"{name}: expected http://HOST:PORT or https://HOST:PORT, received "
                f"{endpoint}"
            )


def _endpoint() -> str:
    endpoint = next(filter(None, map(os.environ.get, ENDPOINTS)), DEFAULT_ENDPOINT)
    return re.sub("//[^/@]*@", "//", endpoint)  # a password
