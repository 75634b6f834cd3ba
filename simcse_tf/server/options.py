"""The settings of the Python server. Needs no TensorFlow."""

import dataclasses
import ipaddress
import socket
from pathlib import Path

from simcse_tf.core.observing import Observing
from simcse_tf.server import configs_pb2
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.channel_arguments import Arguments
from simcse_tf.server.model_config import ModelConfig

REST_CONNECTIONS = 1024

# As sent, and without its compression. A thousand sentences are about 100 kB.
REST_BODY_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class Options:
    """What `simcse_tf.server.run.run` serves, and how.

    Args:
        models: The models, one at least.
        host: Name or address to listen on.
        port: Port for gRPC; 0 takes any free one.
        rest_port: Port for REST; 0 is none.
        batching: How requests are merged; None computes each request by itself.
        rest_max_connections: The most connections to the REST port.
        rest_max_body_bytes: The largest body of a REST request.
        metrics_path: The path of the metrics on the REST port; None shows none.
        ssl: Key and certificates; None serves without TLS.
        token: The token that clients have to send; None accepts all clients.
        grpc_channel_arguments: gRPC's own settings, in place of
            `channel_arguments.with_defaults`.
        poll_seconds: Seconds between looks at the base directories; 0 looks once.
        model_config_file: The file that `models` came from.
        model_config_poll_seconds: Seconds between reads of that file; 0 reads it once.
        labels_for_unavailable_models: Whether a label may name a version that is
            not loaded.
        intra_op_threads: TensorFlow's threads within an op; 0 for one a CPU.
        inter_op_threads: TensorFlow's threads between ops; 0 for one a CPU.
        observing: What the log and a collector of traces are told.

    Example:
    ```python
    model = ModelConfig("simcse", Path("exports/simcse"))
    run(Options(models=(model,), host="127.0.0.1", port=8500))
    ```
    """

    models: tuple[ModelConfig, ...]
    host: str
    port: int
    rest_port: int = 0
    batching: BatchingParameters | None = None
    rest_max_connections: int = REST_CONNECTIONS
    rest_max_body_bytes: int = REST_BODY_BYTES
    metrics_path: str | None = None
    ssl: configs_pb2.SSLConfig | None = None
    token: str | None = None
    grpc_channel_arguments: Arguments = dataclasses.field(default_factory=dict)
    poll_seconds: float = 1.0
    model_config_file: Path | None = None
    model_config_poll_seconds: float = 0.0
    labels_for_unavailable_models: bool = False
    intra_op_threads: int = 1
    inter_op_threads: int = 0
    observing: Observing = Observing()  # noqa: RUF009  it is frozen

    @property
    def on_loopback(self) -> bool:
        """Whether other machines cannot reach the ports.

        Raises:
            socket.gaierror: There is no such host.
        """
        return is_loopback(self.host)

    @property
    def knows_its_clients(self) -> bool:
        """Whether strangers are kept out: by a token, a certificate or the address."""
        verified = self.ssl is not None and self.ssl.client_verify
        return self.token is not None or verified or self.on_loopback


def is_loopback(host: str) -> bool:
    """Whether other machines cannot reach what listens there.

    Args:
        host: Name or address.

    Raises:
        socket.gaierror: There is no such host.

    Example:
    ```python
    is_loopback("127.0.0.1")  # True
    ```
    """
    addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(it[4][0]).is_loopback for it in addresses)
