"""What the server measures, under the names of TF Serving's Prometheus page."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric, exposition

PREFIX = ":tensorflow:serving:"
# Microseconds, from 100 us to 100 s.
MICROSECONDS = tuple(step * 10**power for power in range(2, 8) for step in (1, 2, 5))
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counts requests and batches, and shows them in the format of Prometheus.

    Safe to call from several threads.

    Example:
    ```python
    metrics = Metrics()
    metrics.request("simcse", "Predict", "GRPC", "OK", seconds=0.02)
    page, content_type = metrics.render()
    ```
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = _Requests()
        self._registry.register(self._requests)
        self._request_latency = self._histogram(
            "request_latency", "Time of a request in us", "model_name API entrypoint"
        )
        self._runtime_latency = self._histogram(
            "runtime_latency", "Time of a batch in the graph in us", "model_name"
        )
        self._queuing_latency = self._histogram(
            "batching_session:queuing_latency",
            "Time that a batch's first request waited in us",
            "model_name",
        )
        self._batch_size = self._histogram(
            "batching_session:processed_batch_size",
            "Texts in a batch, padding included",
            "model_name",
            SIZES,
        )
        self._padding_size = self._histogram(
            "batching_session:padding_size", "Padding in a batch", "model_name", SIZES
        )
        self._queued = Gauge(
            f"{PREFIX}batching_session:queued_texts",
            "Texts that wait for a batch",
            ["model_name"],
            registry=self._registry,
        )

    def request(
        self, model_name: str, api: str, entrypoint: str, status: str, seconds: float
    ) -> None:
        """Counts a request.

        Args:
            model_name: The model's name.
            api: Such as "Predict".
            entrypoint: "GRPC" or "REST".
            status: The name of gRPC's code.
            seconds: How long it took.
        """
        self._requests.count[model_name, status] += 1
        self._request_latency.labels(model_name, api, entrypoint).observe(seconds * 1e6)

    def batch(
        self,
        model_name: str,
        texts: int,
        allowed_size: int,
        queue_seconds: float,
        run_seconds: float,
    ) -> None:
        """Counts a batch.

        Args:
            model_name: The model's name.
            texts: The texts that clients sent.
            allowed_size: The texts and the padding.
            queue_seconds: How long the first text waited.
            run_seconds: How long the graph took.
        """
        self._batch_size.labels(model_name).observe(allowed_size)
        self._padding_size.labels(model_name).observe(allowed_size - texts)
        self._queuing_latency.labels(model_name).observe(queue_seconds * 1e6)
        self._runtime_latency.labels(model_name).observe(run_seconds * 1e6)

    def queued(self, model_name: str, change: int) -> None:
        """Records by how many texts a queue has grown, or shrunk."""
        self._queued.labels(model_name).inc(change)

    def render(self) -> tuple[bytes, str]:
        """Returns the page and its content type."""
        return (
            exposition.generate_latest(self._registry),
            exposition.CONTENT_TYPE_PLAIN_0_0_4,
        )

    def _histogram(
        self,
        name: str,
        description: str,
        labels: str,
        buckets: tuple[float, ...] = MICROSECONDS,
    ) -> Histogram:
        return Histogram(
            PREFIX + name,
            description,
            labels.split(),
            buckets=buckets,
            registry=self._registry,
        )


class _Requests:
    """`request_count`: a `Counter` of the library would be named `..._total`."""

    def __init__(self) -> None:
        self.count: Counter[tuple[str, str]] = Counter()

    def collect(self) -> Iterator[Metric]:
        metric = Metric(f"{PREFIX}request_count", "Requests", "untyped")
        for (model_name, status), count in list(self.count.items()):
            labels = {"model_name": model_name, "status": status}
            metric.add_sample(metric.name, labels, count)
        yield metric
