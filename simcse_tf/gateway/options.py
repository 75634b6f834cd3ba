"""The settings of the gateway."""

import dataclasses

from simcse_tf.client import Tls
from simcse_tf.server import configs_pb2
from simcse_tf.server.options import REST_BODY_BYTES, REST_CONNECTIONS


@dataclasses.dataclass(frozen=True)
class Options:
    """What `simcse_tf.gateway.run.run` stands in front of, and how.

    Args:
        target: "HOST:PORT" of the model server's gRPC port.
        models: The names of its models.
        label: The versions that answer, such as "stable"; None for the newest.
        target_tls: Files for the connection to the model server; None for a plain one.
        target_token: What the model server wants to be sent.
        timeout: Seconds that one request to the model server may take, and that it may
            take to be ready at the start.
        retry: Seconds for which a request is sent again while the model server is away
            or full.
        max_batch_size: The most texts in one request to the model server.
        max_texts_in_flight: The most texts of all clients at a time.
        host: Name or address to listen on.
        port: Port to listen on.
        ssl: Key and certificates; None serves without TLS.
        token: The API key that clients have to send; None accepts all clients.
        rest_max_connections: The most connections.
        rest_max_body_bytes: The largest body of a request.

    Example:
    ```python
    run(Options(target="127.0.0.1:8500", port=8080))
    ```
    """

    target: str
    models: tuple[str, ...] = ("simcse",)
    label: str | None = None
    target_tls: Tls | None = None
    target_token: str | None = None
    timeout: float = 60.0
    retry: float = 30.0
    max_batch_size: int = 64
    max_texts_in_flight: int = 4096
    host: str = "127.0.0.1"
    port: int = 8080
    ssl: configs_pb2.SSLConfig | None = None
    token: str | None = None
    rest_max_connections: int = REST_CONNECTIONS
    rest_max_body_bytes: int = REST_BODY_BYTES
