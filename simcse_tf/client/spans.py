"""The client's spans, for programs that have set up OpenTelemetry."""

import contextlib
from collections.abc import Iterator
from typing import Any

from simcse_tf.client.retry import ServerError
from simcse_tf.core.tracing import Span, client_span

STATUS = "rpc.response.status_code"


@contextlib.contextmanager
def rpc_span(path: str, target: str, request: Any) -> Iterator[Span]:
    """The span of a request, its retries included.

    Args:
        path: The method, such as `/package.Service/Method`.
        target: The server's address.
        request: The message.

    Reference:
        - [Conventions for gRPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/)

    Example:
    ```python
    with rpc_span("/package.Service/Method", "127.0.0.1:8500", message) as span:
        span.event("retry", {})
    ```
    """
    method = path.lstrip("/")
    host, _, port = target.rpartition(":")
    attributes: dict[str, Any] = {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "server.address": host.strip("[]") if port.isdecimal() else target,
    }
    if port.isdecimal():
        attributes["server.port"] = int(port)
    with client_span(method, attributes) as span:
        if span.recorded:
            span.set(_of_model(request))
        try:
            yield span
        except ServerError as error:
            span.set({STATUS: error.code.name})
            span.failed(error.code.name)
            raise
        span.set({STATUS: "OK"})


def _of_model(request: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {"simcse.model.name": request.model_spec.name}
    inputs = getattr(request, "inputs", ())
    if inputs:
        attributes["simcse.texts"] = len(inputs[0].value.string_val)
    return attributes
