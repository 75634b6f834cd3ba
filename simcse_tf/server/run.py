"""Loads a model, serves it and stops when asked to."""

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from simcse_tf.errors import UserError
from simcse_tf.server import grpc_service, warmup
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.catalog import Catalog
from simcse_tf.server.servable import Servable

GRACE_SECONDS = 20.0  # orchestrators kill about 30 s after asking

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

BATCHING = BatchingParameters(64, 2000, 32, 2, (1, 2, 4, 8, 16, 24, 32, 48, 64))

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Otherwise a second server on the same port would get half of the requests.
    ("grpc.so_reuseport", 0),
]


def run(
    name: str, version: int, path: Path, host: str, port: int, rest_port: int = 0
) -> None:
    """Serves one model version over gRPC, and REST, until SIGTERM or SIGINT.

    Prints one line on stdout for each once requests are answered. When asked to stop,
    finishes the requests that are running, for at most 20 seconds, and ends the
    process with exit code 0.

    Args:
        name: The model's name in requests.
        version: The version that responses report.
        path: The SavedModel's directory, in its base directory.
        host: Name or address to listen on.
        port: Port for gRPC; 0 takes any free one.
        rest_port: Port for REST; 0 is none.

    Raises:
        UserError: The model or its warmup requests are broken, or the address
            cannot be listened on.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    executor = ThreadPoolExecutor(
        BATCHING.num_batch_threads, thread_name_prefix="inference"
    )
    servable = Servable(version, path, BATCHING, executor)
    warmup.replay(servable)
    model = f"{name} version {version} from {path.parent}"
    asyncio.run(_serve(model, Catalog(name, [servable]), host, port, rest_port))
    _end_process()


async def _serve(
    model: str,
    catalog: Catalog,
    host: str,
    port: int,
    rest_port: int,
) -> None:
    server = grpc.aio.server(options=OPTIONS)
    grpc_service.add_services(server, catalog)
    shown_host = f"[{host}]" if ":" in host else host
    try:
        port = server.add_insecure_port(f"{shown_host}:{port}")
    except RuntimeError as error:
        raise UserError(f"--port: cannot listen on {shown_host}:{port}") from error
    announcement = f"Serving {model} at {shown_host}:{port}"
    stops = [server.stop]
    if rest_port:
        # Imported here because most servers do without, and it takes a while.
        from simcse_tf.server import rest

        stops.append(await rest.start(catalog, host, rest_port))
        # On a line of its own: whoever looks for the address in the first one
        # finds gRPC's.
        announcement += f"\nREST at {shown_host}:{rest_port}"
    stopping = _stop_signal()
    await server.start()
    print(announcement, flush=True)
    await stopping
    await asyncio.gather(*(stop(GRACE_SECONDS) for stop in stops))


def _stop_signal() -> asyncio.Future[None]:
    """A future that SIGTERM or SIGINT resolves."""
    loop = asyncio.get_running_loop()
    stopping = loop.create_future()

    def stop() -> None:
        # Whoever asks a second time does not want to wait.
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, os._exit, 128 + number)
        stopping.set_result(None)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    return stopping


def _end_process() -> None:
    # Python's own exit would wait without a limit for inference that the grace
    # period cut off and that nobody waits for any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
