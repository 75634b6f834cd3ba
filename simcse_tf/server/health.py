"""gRPC's standard health service."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from simcse_tf.server.grpc_service import PREDICTION_SERVICE


class Health:
    """Reports SERVING from `serving` to `draining`.

    A model is available once it has answered its warmup requests. The exports of
    simcse_tf hold such requests, so SERVING means that predictions were answered.

    Args:
        server: A `grpc.aio` server that is not started yet.
        models: The models' names, each a service that may be asked for.

    Example:
    ```python
    health = Health(server, ["simcse"])
    await server.start()
    await health.serving()
    ```
    """

    def __init__(self, server: grpc.aio.Server, models: list[str]):
        self._servicer = health.aio.HealthServicer()
        self._services = ["", PREDICTION_SERVICE, *models]
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def serving(self) -> None:
        """Reports that every model is available."""
        for service in self._services:
            await self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def draining(self) -> None:
        """Reports that new requests should go to another server."""
        await self._servicer.enter_graceful_shutdown()
