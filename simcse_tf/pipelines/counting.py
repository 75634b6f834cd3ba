"""Counters of a pipeline, which every runner adds up over its workers."""

from apache_beam.metrics.metric import Metrics


def count(name: str, amount: int = 1) -> None:
    """Adds to a counter.

    Args:
        name: string. The counter's.
        amount: int. Defaults to `1`.

    Example:

    ```python
    count("rows", 8192)
    ```
    """
    Metrics.counter("simcse_tf", name).inc(amount)
