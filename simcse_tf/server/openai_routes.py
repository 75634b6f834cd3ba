"""The OpenAI API over HTTP, for any backend. Needs no TensorFlow."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import numpy as np
from aiohttp import web

from simcse_tf.core import request_context
from simcse_tf.core.errors import NotFinite
from simcse_tf.core.vectors import check_finite
from simcse_tf.openai_api import answers, paths
from simcse_tf.openai_api.backend import Backend, Embedded, check_whole
from simcse_tf.openai_api.embeddings_request import (
    MOST_INPUTS,
    EmbeddingsRequest,
    parse_request,
)
from simcse_tf.openai_api.errors import ApiError, quoted, unknown_model
from simcse_tf.quantization import truncate
from simcse_tf.server.http_server import CLIENT_LEFT, connection_of
from simcse_tf.server.request_body import Bodies, Refused
from simcse_tf.version import __version__

# So many numbers are written in less time than a thread takes to start.
FEW_NUMBERS = 2**13

logger = logging.getLogger(__name__)


class OpenAiApi:
    """Answers HTTP requests as the OpenAI API does.

    Args:
        backend: Embeds the texts.
        bodies: Reads the bodies of requests.
        limits: Further limits to tell, by name.

    Example:
    ```python
    server = web.Server(OpenAiApi(backend, Bodies(2**23, 60)).answer)
    ```
    """

    def __init__(
        self,
        backend: Backend,
        bodies: Bodies,
        limits: Mapping[str, int] | None = None,
    ):
        self._backend = backend
        self._bodies = bodies
        self._limits = {"inputs": MOST_INPUTS, "body_bytes": bodies.most}
        self._limits.update(limits or {})
        self.created = int(time.time())

    async def answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answers any request, wrong ones too.

        Args:
            http: The request.
        """
        try:
            return await self._answer(http)
        except ApiError as error:
            return error_response(error)
        except Refused as refused:
            retry = 1 if refused.status == 429 else None
            told = ApiError(refused.status, str(refused), retry_after=retry)
            return error_response(told)
        except web.RequestPayloadError as error:
            return error_response(ApiError(400, f"cannot read the body: {error}"))
        except ConnectionError:  # the answer reaches nobody
            return error_response(ApiError(CLIENT_LEFT, "the client has left"))
        except Exception as error:
            logger.error("a request failed unexpectedly", exc_info=error)
            # Only its kind: the message may name files of the server.
            kind = type(error).__name__
            return error_response(ApiError(500, f"{kind}: the server's log says more"))

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.rel_url.raw_path
        if path == paths.EMBEDDINGS:
            _check_method(http, "POST")
            return await self._embeddings(http)
        if path == paths.HEALTH:
            _check_method(http, "GET", "HEAD")
            await self._backend.check_ready()
            return _json(b'{"status": "ok"}')
        if path == paths.INFO:
            _check_method(http, "GET")
            names = self._backend.models
            models = [await self._backend.describe(name) for name in names]
            return _json(answers.info(models, self._limits, __version__))
        if path == paths.MODELS:
            _check_method(http, "GET")
            return _json(answers.models(self._backend.models, self.created))
        if path.startswith(f"{paths.MODELS}/"):
            _check_method(http, "GET")
            return self._model(unquote(path.removeprefix(f"{paths.MODELS}/")))
        raise ApiError(404, f"there is no path {quoted(path)}", code="unknown_url")

    def _model(self, name: str) -> web.Response:
        if name not in self._backend.models:
            raise unknown_model(name, list(self._backend.models))
        return _json(json.dumps(answers.model(name, self.created)).encode())

    async def _embeddings(self, http: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(http)
        with self._bodies.room(connection.address) as room:
            body = await self._bodies.read(http, room)
            with connection.working():
                await room.take_values(body)
                request = parse_request(body)
                del body
                request_context.note(model=request.model)
                embedded = await self._backend.embed(request)
        request_context.note(version=embedded.version, texts=len(request.input))
        check_whole(request, embedded)
        return await _write(http, request, embedded)


def error_response(error: ApiError) -> web.Response:
    """Makes the answer of a request that failed.

    Args:
        error: Why it failed.

    Example:
    ```python
    error_response(ApiError(404, "there is no model 'bert'"))
    ```
    """
    response = _json(error.body(), error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


async def _write(
    http: web.BaseRequest, request: EmbeddingsRequest, embedded: Embedded
) -> web.StreamResponse:
    """Writes embeddings, a long answer piece by piece.

    All of them are there before the first byte is written: an answer that has begun
    cannot become an error any more.
    """
    embeddings = embedded.embeddings
    if request.dimensions is not None:
        embeddings = truncate(embeddings, request.dimensions)
    try:
        check_finite(embeddings, "embeddings")
    except NotFinite as error:
        raise ApiError(500, f"the model is broken: {error}") from None
    tokens = int(np.sum(embedded.tokens))
    written = answers.pieces(request, embeddings, tokens)
    first = await _next(written, embeddings.size)
    # HTTP/1.0 knows no chunks.
    if embeddings.size <= answers.PIECE_NUMBERS or http.version < (1, 1):
        response = _json(first + b"".join(written))
        response.headers.update(_headers(embedded))
        return response
    stream = web.StreamResponse(headers=_headers(embedded))
    stream.content_type = "application/json"
    stream.enable_chunked_encoding()
    try:
        await stream.prepare(http)
        while first:
            await stream.write(first)
            first = await _next(written, embeddings.size)
        await stream.write_eof()
    except Exception:
        # Without its last chunk the answer is no answer.
        connection_of(http).abort()
        raise
    return stream


async def _next(written: Iterator[bytes], numbers: int) -> bytes:
    if numbers <= FEW_NUMBERS:
        return next(written, b"")
    # In a thread, so that the event loop stays responsive.
    return await asyncio.to_thread(next, written, b"")


def _headers(embedded: Embedded) -> dict[str, str]:
    # Embeddings of two versions are not comparable.
    headers = {"X-Model-Version": str(embedded.version)}
    # A long answer begins before anybody else could add it.
    if current := request_context.current():
        headers[request_context.REQUEST_ID] = current.id
    return headers


def _check_method(http: web.BaseRequest, *allowed: str) -> None:
    if http.method not in allowed:
        raise ApiError(
            405, f"expected {' or '.join(allowed)}, received {quoted(http.method)}"
        )


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")
