"""Loads models, serves them and stops when asked to."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import grpc
import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.server import (
    channel_arguments,
    connections,
    descriptors,
    grpc_service,
    security,
    text_config,
    warmup,
)
from simcse_tf.server.catalog import Catalog, ServedModel
from simcse_tf.server.health import Health
from simcse_tf.server.loader import Loader
from simcse_tf.server.metrics import Metrics
from simcse_tf.server.observed_requests import observing_middleware
from simcse_tf.server.options import Options
from simcse_tf.server.process import (
    GRACE_SECONDS,
    announce,
    in_address,
    stop_signal,
)
from simcse_tf.server.reloading import Reloading
from simcse_tf.server.servable import Servable
from simcse_tf.version import __version__

logger = logging.getLogger(__name__)


def run(options: Options) -> None:
    """Serves models over gRPC, and REST, until a signal.

    Prints one line on stdout for each of the two once it answers requests. After
    SIGTERM, SIGINT or SIGHUP it finishes the requests that are running, for at most 20
    seconds, and ends the process with exit code 0.

    Args:
        options: What to serve, and how.

    Raises:
        UserError: A model or its warmup requests are broken, or the address
            cannot be listened on.

    Example:
    ```python
    model = ModelConfig("simcse", Path("exports/simcse"))
    run(Options(models=(model,), host="127.0.0.1", port=8500))
    ```
    """
    stop_observing = options.observing.start("simcse-serve", __version__)
    tf.config.threading.set_intra_op_parallelism_threads(options.intra_op_threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.inter_op_threads)
    most = descriptors.raise_descriptor_limit()
    asyncio.run(_serve(options, most))
    stop_observing()
    _end_process()


async def _serve(options: Options, most_descriptors: int) -> None:
    metrics = Metrics()
    loaders = _loaders(options, metrics)
    for loader in loaders.values():
        await loader.start()
    catalog = Catalog(*loaders)
    reloading = Reloading([*loaders.values()])
    server, port = _grpc_server(options, catalog, metrics, most_descriptors, reloading)
    health = Health(server, [model.name for model in loaders])
    stops = [server.stop]
    announcement = _announcement(options, loaders, port)
    if options.rest_port:
        # Imported here because it takes a while, and most servers have no REST port.
        from simcse_tf.server import rest

        tls = security.ssl_context(options.ssl) if options.ssl else None
        middlewares = [observing_middleware(options.observing.log_requests)]
        if options.token:
            middlewares.append(security.token_middleware(options.token))
        stops.append(
            await rest.start(
                catalog,
                options.host,
                options.rest_port,
                metrics,
                options.metrics_path,
                tls,
                middlewares,
                _rest_limits(options, most_descriptors),
                options.rest_max_body_bytes,
            )
        )
    stopping = stop_signal()
    await server.start()
    await health.serving()
    announce(announcement)
    watching = asyncio.create_task(_watch(options, [*loaders.values()], reloading))
    await stopping
    watching.cancel()
    await health.draining()
    await asyncio.gather(*(stop(GRACE_SECONDS) for stop in stops))


def _loaders(options: Options, metrics: Metrics) -> dict[ServedModel, Loader]:
    # One executor for all models, because they share the cores.
    threads = options.batching.num_batch_threads if options.batching else None
    inference = ThreadPoolExecutor(threads, thread_name_prefix="inference")
    long_texts = ThreadPoolExecutor(1, thread_name_prefix="long-texts")
    loading = ThreadPoolExecutor(1, thread_name_prefix="loading")
    loaders = {}
    for config in options.models:
        model = ServedModel(config.name)
        load = _loading(options, config.name, inference, long_texts, metrics)
        new_labels = options.labels_for_unavailable_models
        loaders[model] = Loader(model, config, load, loading, new_labels)
    return loaders


def _loading(
    options: Options,
    name: str,
    executor: Executor,
    long_executor: Executor,
    metrics: Metrics,
) -> Callable[[int, Path], Servable]:
    def load(number: int, path: Path) -> Servable:
        servable = Servable(
            number, path, options.batching, executor, metrics, name, long_executor
        )
        warmup.replay(servable)
        return servable

    return load


def _grpc_server(
    options: Options,
    catalog: Catalog,
    metrics: Metrics,
    most: int,
    reloading: Reloading,
) -> tuple[grpc.aio.Server, int]:
    arguments = channel_arguments.with_defaults(
        options.grpc_channel_arguments, descriptors.share_of_a_port(most)
    )
    server = grpc_service.make_server(
        catalog,
        metrics,
        arguments,
        options.token,
        reloading if options.knows_its_clients else None,
        options.observing.log_requests,
    )
    address = f"{in_address(options.host)}:{options.port}"
    try:
        if not options.ssl:
            return server, server.add_insecure_port(address)
        credentials = security.grpc_credentials(options.ssl)
        return server, server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise UserError(f"--port: cannot listen on {address}") from error


def _rest_limits(options: Options, most: int) -> connections.Limits:
    in_all = min(options.rest_max_connections, descriptors.share_of_a_port(most))
    return connections.Limits.of_all(in_all)


def _announcement(
    options: Options, loaders: dict[ServedModel, Loader], port: int
) -> str:
    host = in_address(options.host)
    served = ", ".join(
        f"{model.name} version {model.available()[0]} from {loader.config.base_path}"
        for model, loader in loaders.items()
    )
    # REST is on a line of its own, so that the first line ends with gRPC's address.
    rest = f"\nREST at {host}:{options.rest_port}" if options.rest_port else ""
    return f"Serving {served} at {host}:{port}{rest}"


async def _watch(options: Options, loaders: list[Loader], reloading: Reloading) -> None:
    """Follows the base directories, and the file that names them."""
    loop = asyncio.get_running_loop()
    config_read, last_error = loop.time(), ""
    while options.poll_seconds:
        await asyncio.sleep(options.poll_seconds)
        config_age = loop.time() - config_read
        if 0 < options.model_config_poll_seconds <= config_age:
            config_read = loop.time()
            error = await _read_config_again(options.model_config_file, reloading)
            if error != last_error and error:  # once, not at every look
                logger.error("%s", error)
            last_error = error
        for loader in loaders:
            await loader.update()


async def _read_config_again(path: Path | None, reloading: Reloading) -> str:
    """Takes over versions and labels. Returns why not, or an empty string."""
    assert path
    try:
        # In a thread: its disk may hang.
        reloading.reload(await asyncio.to_thread(text_config.read_models, path))
    except UserError as error:
        return str(error)
    except tf.errors.OpError as error:
        return f"{path}: {error.message}"
    return ""


def _end_process() -> None:
    # Python's own exit would wait without a limit for inference that the grace
    # period cut off, whose clients have left.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)
