"""Answers requests until a signal."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from simcse_tf.client import AsyncClient
from simcse_tf.core.errors import UserError
from simcse_tf.gateway.metrics import CountedRetry, Metrics
from simcse_tf.gateway.options import Options
from simcse_tf.gateway.target_backend import TargetBackend
from simcse_tf.gateway.target_model import TargetModel
from simcse_tf.server import descriptors, security
from simcse_tf.server.connections import Limits
from simcse_tf.server.http_server import CLIENT_LEFT, Handler, serve
from simcse_tf.server.observed_requests import observing_middleware
from simcse_tf.server.openai_routes import OpenAiApi
from simcse_tf.server.process import GRACE_SECONDS, announce, in_address, stop_signal
from simcse_tf.server.request_body import Bodies
from simcse_tf.version import __version__

METRICS_PATH = "/metrics"
# Requests go to all addresses of the target in turn.
ROUND_ROBIN = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


def run(options: Options) -> None:
    """Answers requests until SIGTERM, SIGINT or SIGHUP.

    Prints one line on stdout once the model server answers. After the signal it
    finishes the requests that are running, for at most 20 seconds.

    Args:
        options: What it stands in front of, and how.

    Raises:
        UserError: The model server does not answer in time or lacks something, or the
            address cannot be listened on.

    Example:
    ```python
    run(Options(target="127.0.0.1:8500", port=8080))
    ```
    """
    stop_observing = options.observing.start("simcse-gateway", __version__)

    async def until_signal() -> None:
        await answer(options, stop_signal())

    asyncio.run(until_signal())
    stop_observing()


async def answer(options: Options, stopping: Awaitable[None]) -> None:
    """Answers requests until something happens.

    Args:
        options: As for `run`.
        stopping: What happens then.

    Raises:
        UserError: As for `run`.

    Example:
    ```python
    await answer(Options(target="127.0.0.1:8500"), event.wait())
    ```
    """
    stopped = asyncio.ensure_future(stopping)
    metrics = Metrics()
    backend = _backend(options, metrics)
    try:
        # At once, so that a port that is taken is known before the model is waited
        # for. Until then /health answers 503.
        stop = await _listen(options, backend, metrics)
        starting = asyncio.ensure_future(backend.start(options.timeout))
        try:
            await asyncio.wait({starting, stopped}, return_when="FIRST_COMPLETED")
            if starting.done():
                starting.result()
                announce(_announcement(options))
            await stopped
        finally:
            starting.cancel()
            await stop(GRACE_SECONDS if stopped.done() else 1.0)
    finally:
        stopped.cancel()
        await backend.close()


def _backend(options: Options, metrics: Metrics) -> TargetBackend:
    retry = CountedRetry(seconds=options.retry, count=metrics.retries.inc)

    def connect(model: str, version: int | None) -> AsyncClient:
        return AsyncClient(
            options.target,
            model,
            timeout=options.timeout,
            batch_size=options.max_batch_size,
            version=version,
            label=options.label if version is None else None,
            retry=retry,
            tls=options.target_tls,
            token=options.target_token,
            options=ROUND_ROBIN,
        )

    models = [
        TargetModel(name, functools.partial(connect, name), options.max_batch_size)
        for name in options.models
    ]
    return TargetBackend(models, metrics, options.max_texts_in_flight)


async def _listen(
    options: Options, backend: TargetBackend, metrics: Metrics
) -> Callable[[float], Awaitable[None]]:
    most = min(options.rest_max_connections, descriptors.raise_descriptor_limit() // 2)
    limits = Limits.of_all(most)
    bodies = Bodies(options.rest_max_body_bytes, limits.body_seconds)
    told = {"texts_in_flight": options.max_texts_in_flight}
    answer = _with_metrics(OpenAiApi(backend, bodies, told).answer, metrics)
    if options.token:
        check = security.token_middleware(options.token)
        answer = functools.partial(check, handler=answer)
    tls = security.ssl_context(options.ssl) if options.ssl else None
    observe = observing_middleware(options.observing.log_requests)
    observed = functools.partial(observe, handler=_counted(answer, metrics))
    try:
        return await serve(observed, options.host, options.port, limits, tls)
    except OSError as error:
        address = f"{in_address(options.host)}:{options.port}"
        raise UserError(
            f"--port: cannot listen on {address}: {error.strerror}"
        ) from error


def _with_metrics(answer: Handler, metrics: Metrics) -> Handler:
    async def answer_or_show(http: web.BaseRequest) -> web.StreamResponse:
        if (http.method, http.rel_url.raw_path) != ("GET", METRICS_PATH):
            return await answer(http)
        body, content_type = metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    return answer_or_show


def _counted(answer: Handler, metrics: Metrics) -> Handler:
    async def answer_and_count(http: web.BaseRequest) -> web.StreamResponse:
        start, status = time.monotonic(), CLIENT_LEFT
        try:
            response = await answer(http)
            status = response.status
            return response
        finally:
            seconds = time.monotonic() - start
            metrics.request(http.rel_url.raw_path, status, seconds)

    return answer_and_count


def _announcement(options: Options) -> str:
    scheme = "https" if options.ssl else "http"
    address = f"{scheme}://{in_address(options.host)}:{options.port}/v1"
    return f"Serving {', '.join(options.models)} of {options.target} at {address}"
