"""Decides which clients are answered: by certificates, and by a token."""

import contextlib
import hmac
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
from aiohttp import typedefs, web
from grpc_health.v1.health import SERVICE_NAME

from simcse_tf.core.errors import UserError
from simcse_tf.openai_api import paths
from simcse_tf.openai_api.errors import WRONG_KEY, wrong_key
from simcse_tf.server import configs_pb2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses gRPC requests without the token, but for health checks.

    Args:
        token: The token that clients have to send.

    Example:
    ```python
    server = grpc.aio.server(interceptors=[TokenInterceptor(token)])
    ```
    """

    def __init__(self, token: str):
        self._token = token
        # As a stream, whose messages are not read.
        self._refuse = grpc.stream_unary_rpc_method_handler(_refuse)

    async def intercept_service(
        self, continuation: Any, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Passes a request on, or refuses it."""
        metadata = dict(details.invocation_metadata or ())
        health_check = details.method.startswith(f"/{SERVICE_NAME}/")
        if health_check or _is_authorized(metadata.get("authorization"), self._token):
            return await continuation(details)
        return self._refuse


async def _refuse(_: Any, context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, WRONG_KEY)


def token_middleware(token: str) -> typedefs.Middleware:
    """Makes the same check for HTTP, where the API key is the token.

    Args:
        token: The token that clients have to send.

    Returns:
        A middleware of aiohttp.

    Example:
    ```python
    app = web.Application(middlewares=[token_middleware(token)])
    ```
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        health_check = request.rel_url.raw_path == paths.HEALTH
        header = request.headers.get("authorization")
        if health_check or _is_authorized(header, token):
            return await handler(request)
        refusal = wrong_key()
        return web.Response(
            status=refusal.status,
            body=refusal.body(),
            content_type="application/json",
        )

    return check


def _is_authorized(header: str | bytes | None, token: str) -> bool:
    received = (
        header.encode("utf-8", "surrogateescape") if isinstance(header, str) else header
    )
    # This takes as long for every wrong token, whatever it begins with.
    return hmac.compare_digest(received or b"", f"Bearer {token}".encode())


def grpc_credentials(config: configs_pb2.SSLConfig) -> grpc.ServerCredentials:
    """Makes the credentials with which gRPC serves TLS.

    Args:
        config: What `text_config.read_ssl` returned.

    Example:
    ```python
    credentials = grpc_credentials(text_config.read_ssl(Path("ssl.config")))
    server.add_secure_port("127.0.0.1:8500", credentials)
    ```
    """
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


def ssl_context(config: configs_pb2.SSLConfig) -> ssl.SSLContext:
    """Makes the context with which HTTPS is served.

    Args:
        config: As for `grpc_credentials`.

    Raises:
        UserError: Key and certificate are not PEM, or do not belong together.

    Example:
    ```python
    context = ssl_context(text_config.read_ssl(Path("ssl.config")))
    site = web.TCPSite(runner, port=8501, ssl_context=context)
    ```
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        with _pem_file(config.server_cert + "\n" + config.server_key) as path:
            # OpenSSL would ask on the terminal for the password of an encrypted key.
            context.load_cert_chain(path, password="")
        if config.custom_ca:
            context.load_verify_locations(cadata=config.custom_ca)
    except (ssl.SSLError, ValueError) as error:  # the latter if it is not ASCII
        raise UserError(
            f"--ssl_config_file: expected a key and its certificate in PEM: {error}"
        ) from None
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def _pem_file(text: str) -> Iterator[str]:
    """Keeps text in a file until the block ends: ssl reads keys from files only."""
    descriptor, path = tempfile.mkstemp()  # only this user can read it
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        yield path
    finally:
        os.unlink(path)
