"""How long predictions take and how they end, counted as TF Serving does."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

import grpc

from simcse_tf.server import status_errors

STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class RequestMetrics(Protocol):
    """Receives each request."""

    def request(
        self, model_name: str, api: str, entrypoint: str, status: str, seconds: float
    ) -> None:
        """Called after each request."""


@contextlib.contextmanager
def counted(
    metrics: RequestMetrics | None, model_name: str, entrypoint: str
) -> Iterator[None]:
    """Counts a prediction.

    Args:
        metrics: Receives the prediction when the block ends, also by an exception.
        model_name: The name of a model that exists: clients cannot invent labels.
        entrypoint: "GRPC" or "REST".

    Example:
    ```python
    with counted(metrics, "simcse", "GRPC"):
        outputs = await servable.run(request)
    ```
    """
    if metrics is None:
        yield
        return
    start = time.monotonic()
    status = "CANCELLED"  # a cancelled block ends with a BaseException
    try:
        yield
        status = "OK"
    except Exception as error:
        status = STATUS_NAMES.get(status_errors.code(error), "UNKNOWN")
        raise
    finally:
        seconds = time.monotonic() - start
        metrics.request(model_name, "Predict", entrypoint, status, seconds)
