"""The flags of servers about logs and traces, and what they set up."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from simcse_tf.core import extras, logs

# So long a server that ends waits for the collector.
FLUSH_SECONDS = 3.0


@dataclass(frozen=True)
class Observing:
    """What the log and a collector of traces are told.

    Args:
        log_format: "text" or "json".
        log_requests: Whether each request gets a line in the log.
        tracing: Whether spans are sent to where OpenTelemetry's environment
            variables say.

    Raises:
        UserError: `tracing` needs packages that are not installed, or an environment
            variable is wrong.

    Example:
    ```python
    stop = Observing(log_format="json").start("simcse-serve", "1.0")
    ```
    """

    log_format: str = "text"
    log_requests: bool = False
    tracing: bool = False

    def __post_init__(self) -> None:
        if self.tracing:
            extras.require(
                "opentelemetry.sdk",
                "opentelemetry.exporter.otlp.proto.http",
                extra="tracing",
            )
            from simcse_tf.core import trace_export

            trace_export.check_environment()

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Observing":
        """Reads what `add_flags` added.

        Args:
            args: A parsed command line.
        """
        return cls(args.log_format, args.log_requests, args.tracing)

    def start(self, service: str, version: str) -> Callable[[], None]:
        """Sets up logging and tracing for this process.

        Args:
            service: The service's name where the environment gives none.
            version: The service's version.

        Returns:
            A function that sends what waits, for at most three seconds.

        Raises:
            UserError: An environment variable is wrong.
        """
        logs.set_up(self.log_format)
        if not self.tracing:
            return lambda: None
        from simcse_tf.core import trace_export

        stop = trace_export.start(service, version)
        return lambda: stop(FLUSH_SECONDS)


def add_flags(group: "argparse._ArgumentGroup") -> None:
    """Adds the flags to a command.

    Args:
        group: Where they stand in the help.

    Example:
    ```python
    add_flags(parser.add_argument_group("logs and traces"))
    ```
    """
    group.add_argument(
        "--log_format",
        choices=logs.FORMATS,
        default="text",
        help="lines of the log: text, or one JSON object each (default: text)",
    )
    group.add_argument(
        "--log_requests",
        action="store_true",
        help="write a line for each request, without its texts",
    )
    group.add_argument(
        "--tracing",
        action="store_true",
        help="send spans to OTEL_EXPORTER_OTLP_ENDPOINT (extra: tracing)",
    )
