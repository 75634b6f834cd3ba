"""What the gateway measures, in the format of Prometheus."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition

from simcse_tf.client import Retry
from simcse_tf.openai_api import paths

PREFIX = "simcse_gateway_"
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts requests, and shows them.

    Attributes:
        texts: Texts that were embedded.
        tokens: Tokens that the model read of them.
        in_flight: Texts that are being embedded.
        retries: Requests to the model server that were sent again.
        version_changes: Calls that began anew, as the model server changed its version.

    Example:
    ```python
    metrics = Metrics()
    metrics.request("/v1/embeddings", 200, seconds=0.02)
    page, content_type = metrics.render()
    ```
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}requests_total",
            "Requests by path and HTTP status",
            ["path", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}request_seconds",
            "Time of a request",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.texts = self._counter("texts_total", "Texts that were embedded")
        self.tokens = self._counter("tokens_total", "Tokens that the model read")
        self.retries = self._counter(
            "retries_total", "Requests to the model server that were sent again"
        )
        self.version_changes = self._counter(
            "version_changes_total",
            "Calls that began anew because the model's version changed",
        )
        self.in_flight = Gauge(
            f"{PREFIX}texts_in_flight",
            "Texts that are being embedded",
            registry=self._registry,
        )

    def request(self, path: str, code: int, seconds: float) -> None:
        """Counts a request.

        Args:
            path: Its path; what is no path of the API is one kind.
            code: The answer's HTTP status.
            seconds: How long it took.
        """
        if path.startswith(f"{paths.MODELS}/"):
            path = paths.MODELS
        if path not in paths.ALL:
            path = "other"
        self._requests.labels(path, str(code)).inc()
        self._seconds.labels(path).observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """Returns the page and its content type."""
        return (
            exposition.generate_latest(self._registry),
            exposition.CONTENT_TYPE_PLAIN_0_0_4,
        )

    def _counter(self, name: str, description: str) -> Counter:
        return Counter(f"{PREFIX}{name}", description, registry=self._registry)


@dataclass(frozen=True)
class CountedRetry(Retry):
    """A `Retry` that counts what is sent again.

    Args:
        count: Called before each attempt but the first.

    Example:
    ```python
    CountedRetry(seconds=30.0, count=metrics.retries.inc)
    ```
    """

    count: Callable[[], None] = lambda: None

    def pauses(self, start: float, end: float = float("inf")) -> Iterator[float]:
        """See `Retry.pauses`."""
        for pause in super().pauses(start, end):
            self.count()
            yield pause
