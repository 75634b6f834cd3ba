"""TF Serving's RESTful API over a catalog of loaded models, and OpenAI's beside it."""

import asyncio
import contextlib
import functools
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from aiohttp import typedefs, web
from google.protobuf import json_format, message
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from simcse_tf.core.errors import UserError
from simcse_tf.openai_api import answers, paths
from simcse_tf.server import descriptions, json_predict, status_errors
from simcse_tf.server.catalog import Catalog
from simcse_tf.server.connections import Limits
from simcse_tf.server.http_server import Handler, connection_of, serve
from simcse_tf.server.openai_backend import CatalogBackend
from simcse_tf.server.openai_routes import OpenAiApi
from simcse_tf.server.options import REST_BODY_BYTES
from simcse_tf.server.request_body import Bodies, Refused, Room
from simcse_tf.server.request_metrics import RequestMetrics, counted
from simcse_tf.server.servable import OTHER_METHODS, Servable

MODEL = (
    r"/v1/models/(?P<name>[^/:]+)"
    r"(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
)
INFERENCE = re.compile(MODEL + r":(?P<method>predict|classify|regress)", re.I | re.A)
DESCRIPTION = re.compile(MODEL + r"(?P<metadata>/metadata)?", re.I | re.A)

TIMEOUT_SECONDS = 30.0  # HTTP brings no deadline; this one is TF Serving's


class MetricsPage(RequestMetrics, Protocol):
    """Counts requests and shows what was counted."""

    def render(self) -> tuple[bytes, str]:
        """Returns the page and its content type."""


async def start(
    catalog: Catalog,
    host: str,
    port: int,
    metrics: MetricsPage | None = None,
    metrics_path: str | None = None,
    tls: ssl.SSLContext | None = None,
    middlewares: Sequence[typedefs.Middleware] = (),
    limits: Limits | None = None,
    max_body_bytes: int = REST_BODY_BYTES,
) -> Callable[[float], Awaitable[None]]:
    """Starts to answer HTTP requests in the running event loop.

    Args:
        catalog: The models to answer for.
        host: Name or address to listen on.
        port: Port to listen on.
        metrics: Receives each prediction.
        metrics_path: The path that shows `metrics`; None does not show them.
        tls: Certificates to answer HTTPS with, instead of HTTP.
        middlewares: Functions that see each request before its body is read, such as a
            check of tokens.
        limits: How many connections are kept, and for how long.
        max_body_bytes: The largest body of a request, also without its compression.

    Returns:
        A function that stops it: it stops listening and finishes the requests that
        are running, for at most the given seconds.

    Raises:
        UserError: The address cannot be listened on.

    Example:
    ```python
    stop = await start(Catalog(model), "127.0.0.1", 8501)
    await stop(20.0)
    ```
    """
    limits = limits or Limits()
    bodies = Bodies(max_body_bytes, limits.body_seconds)
    answer: Handler = RestApi(catalog, bodies, metrics, metrics_path).answer
    for middleware in reversed(middlewares):
        answer = functools.partial(middleware, handler=answer)
    try:
        return await serve(answer, host, port, limits, tls)
    except OSError as error:
        raise UserError(
            f"--rest_api_port: cannot listen on {host}:{port}: {error.strerror}"
        ) from error


class RestApi:
    """Answers HTTP requests as TF Serving does, and those of the OpenAI API.

    Args:
        catalog: The models to answer for.
        bodies: Reads the bodies of requests.
        metrics: Receives each prediction.
        metrics_path: The path that shows `metrics`.

    Example:
    ```python
    server = web.Server(RestApi(catalog, Bodies(2**23, 60)).answer)
    ```
    """

    def __init__(
        self,
        catalog: Catalog,
        bodies: Bodies,
        metrics: MetricsPage | None = None,
        metrics_path: str | None = None,
    ):
        self._catalog = catalog
        self._bodies = bodies
        self._one_large = asyncio.Semaphore(1)  # of which JSON is parsed
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._openai = OpenAiApi(CatalogBackend(catalog, metrics), bodies)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers any request, wrong ones too."""
        if self._metrics and (request.method, request.path) == (
            "GET",
            self._metrics_path,
        ):
            body, content_type = self._metrics.render()
            return web.Response(body=body, headers={"Content-Type": content_type})
        if request.rel_url.raw_path in paths.ALL:
            return await self._openai.answer(request)
        try:
            return _response(200, await self._answer(request))
        except Refused as refused:
            return _response(refused.status, _error(str(refused)))
        except Exception as error:
            code, details = status_errors.describe(error)
            return _response(
                status_errors.HTTP_STATUSES.get(code, 500), _error(details)
            )

    async def _answer(self, request: web.BaseRequest) -> str:
        # An encoded slash stays encoded, and a query is a part of the name.
        path = request.rel_url.raw_path_qs
        if request.method == "POST" and (match := INFERENCE.fullmatch(path)):
            if match["method"] == "predict":
                return await self._predict(match, request)
            if match["method"] in OTHER_METHODS:
                with self._catalog.lease(_model_spec(match)) as servable:
                    raise servable.has_no(match["method"])
        if request.method == "GET" and (match := DESCRIPTION.fullmatch(path)):
            return self._describe(match)
        if not path.lower().startswith("/v1/"):
            raise status_errors.not_found(f"Not found: {path}")
        raise status_errors.invalid(f"Malformed request: {request.method} {path}")

    async def _predict(self, match: re.Match[str], http: web.BaseRequest) -> str:
        spec = _model_spec(match)
        try:
            connection = connection_of(http)
            with self._bodies.room(connection.address) as room:
                body = await self._bodies.read(http, room)
                with connection.working():
                    return await self._run(spec, body, room)
        except web.RequestPayloadError as error:
            raise status_errors.invalid(
                f"cannot read the request body: {error}"
            ) from error
        except ConnectionError as error:
            raise status_errors.cancelled("the client has left") from error

    async def _run(self, spec: model_pb2.ModelSpec, body: bytes, room: Room) -> str:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with (
            self._catalog.lease(spec) as servable,
            counted(self._metrics, spec.name, "REST"),
        ):
            await room.take_values(body)
            # Threads read and write JSON, so that the event loop stays responsive.
            async with self._one_large if room.is_large else contextlib.nullcontext():
                request, row_format = await asyncio.to_thread(
                    _parse, servable, spec, body
                )
            del body
            outputs = await servable.run(request, deadline)
        return await asyncio.to_thread(json_predict.to_json, outputs, row_format)

    def _describe(self, match: re.Match[str]) -> str:
        spec = _model_spec(match)
        if match["metadata"]:
            return _metadata_json(descriptions.metadata(self._catalog, spec))
        described = _to_dict(descriptions.status(self._catalog, spec))
        if not (match["version"] or match["label"]):
            # OpenAI has this path too, so the answer has the fields of both.
            described.update(answers.model(spec.name, self._openai.created))
        return json.dumps(described)


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["label"]:
        spec.version_label = unquote(match["label"])
    if match["version"]:
        try:
            spec.version.value = int(match["version"])
        except ValueError as error:  # more than 64 bits
            raise status_errors.invalid(
                f"Failed to convert version: {match['version']} to numeric."
            ) from error
    return spec


def _parse(
    servable: Servable, spec: model_pb2.ModelSpec, body: bytes
) -> tuple[predict_pb2.PredictRequest, bool]:
    document = json_predict.parse(body)
    request = json_predict.to_request(document, spec, servable.signature)
    return request, json_predict.is_row_format(document)


def _metadata_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> str:
    # Unpacked here, because protobuf's own JSON adds the URL of the type.
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[descriptions.SIGNATURE_DEF].Unpack(signatures)
    metadata = {descriptions.SIGNATURE_DEF: _to_dict(signatures)}
    return json.dumps(
        {"model_spec": _to_dict(response.model_spec), "metadata": metadata}
    )


def _to_dict(proto: message.Message) -> dict[str, Any]:
    fields: dict[str, Any] = json_format.MessageToDict(
        proto,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return fields


def _error(details: str) -> str:
    return json.dumps({"error": details})


def _response(status: int, text: str) -> web.Response:
    return web.Response(
        status=status, body=text.encode(), content_type="application/json"
    )
