"""The connection to a server: its channel, TLS and token, and how requests are sent."""

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from simcse_tf.client.retry import Retry, ServerError, is_retryable
from simcse_tf.client.spans import rpc_span
from simcse_tf.core.errors import UserError
from simcse_tf.core.request_context import REQUEST_ID, sane_id
from simcse_tf.core.tracing import Span, outgoing_headers

# Large batches of wide embeddings pass gRPC's default limit of 4 MB; a server that
# is none could send without end. A model
# server is next door, not behind the proxy that the environment may name. A
# server that is just starting should be found within a second of its start.
CHANNEL_OPTIONS = {
    "grpc.max_receive_message_length": 256 * 2**20,
    "grpc.max_send_message_length": -1,
    "grpc.enable_http_proxy": 0,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 1000,
}

PathLike = str | os.PathLike[str]
M = TypeVar("M", bound=Message)
Response = TypeVar("Response", bound=Message, covariant=True)


@dataclass(frozen=True)
class Tls:
    """Files in PEM format for an encrypted connection.

    Args:
        ca: Certificates of the authorities that the server's certificate may come
            from. Defaults to gRPC's own list.
        certificate: The client's certificate, for a server that asks for one.
        key: The private key of `certificate`.

    Example:
    ```python
    client = Client("models.example:8500", tls=Tls(ca="ca.pem"))
    ```
    """

    ca: PathLike | None = None
    certificate: PathLike | None = None
    key: PathLike | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Returns:
            The credentials of a channel.

        Raises:
            UserError: A file cannot be read, or certificate and key are not together.
        """
        if (self.certificate is None) != (self.key is None):
            raise UserError("TLS: expected a certificate and its key, received one")
        ca, key, certificate = map(_read, (self.ca, self.key, self.certificate))
        self._check()
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def _check(self) -> None:
        """Finds out what gRPC would report as a server that cannot be reached."""
        context = ssl.create_default_context()
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError:
                raise UserError(
                    f"TLS: ca: expected certificates in PEM in {self.ca}"
                ) from None
        if self.certificate is None:
            return
        try:
            # Without a password, it would ask for that of an encrypted key.
            context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError:
            raise UserError(
                f"TLS: certificate, key: expected a certificate and its key, not "
                f"encrypted, in PEM in {self.certificate} and {self.key}"
            ) from None


class Method(Protocol[Response]):
    """A method of the server that can be called."""

    def __call__(
        self, request: Message, end: float, retry: Retry | None = None
    ) -> Awaitable[Response]:
        """Sends a request, and sends it again if it has to be retried.

        Args:
            request: The message to send.
            end: When the call has to end, by `time.monotonic()`.
            retry: In place of the connection's own.

        Returns:
            The response.

        Raises:
            ServerError: The server cannot be reached or answers with an error.
        """


class Connection:
    """A channel to one server, with the settings that every request has.

    To be made where an event loop runs. Connects at the first request.

    Args:
        target: "HOST:PORT".
        timeout: Seconds that one attempt may take.
        retry: When a request that failed is sent again.
        tls: Files for an encrypted connection; None for a plain one.
        token: Sent with every request as `authorization: Bearer TOKEN`.
        options: gRPC channel options; they override `CHANNEL_OPTIONS`.

    Raises:
        UserError: A file of `tls` cannot be read, or a header cannot hold the token.

    Example:
    ```python
    connection = Connection("127.0.0.1:8500", 60.0, Retry(), None, None, ())
    ```
    """

    def __init__(
        self,
        target: str,
        timeout: float,
        retry: Retry,
        tls: Tls | None,
        token: str | None,
        options: Sequence[tuple[str, Any]],
    ):
        self._target = target
        self._timeout = timeout
        self._retry = retry
        self._headers = _authorization(token)
        all_options = list({**CHANNEL_OPTIONS, **dict(options)}.items())
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=all_options)
        else:
            self._channel = grpc.aio.secure_channel(
                target, tls.credentials(), options=all_options
            )

    async def close(self) -> None:
        """Closes the channel; requests that are under way are cancelled."""
        await self._channel.close()

    def method(self, path: str, response_type: type[M]) -> Method[M]:
        """Returns a method of the server.

        Args:
            path: The method's name, such as `/package.Service/Method`.
            response_type: The class of its responses.
        """
        call = self._channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
        )

        async def send(request: Message, end: float, retry: Retry | None = None) -> M:
            with rpc_span(path, self._target, request) as span:
                received = await self._send(
                    call, request, end, retry or self._retry, span
                )
            try:
                return response_type.FromString(received)
            except (DecodeError, TypeError):  # no message at all is no bytes
                raise UserError(
                    f"expected a {response_type.DESCRIPTOR.name} from the server at "
                    f"{self._target}, received other bytes"
                ) from None

        return send

    async def _send(
        self, call: Any, request: Message, end: float, retry: Retry, span: Span
    ) -> bytes:
        headers = self._headers + outgoing_headers()
        start = time.monotonic()
        pauses = retry.pauses(start, end)
        attempts = 0
        while True:
            attempts += 1
            remaining = min(self._timeout, end - time.monotonic())
            try:
                received: bytes = await call(
                    request, timeout=remaining, metadata=headers
                )
                return received
            except grpc.aio.AioRpcError as error:
                again = is_retryable(error.code(), error.details() or "")
                pause = next(pauses, None) if again else None
                if pause is None:
                    raise ServerError(
                        self._target,
                        error.code(),
                        error.details() or "",
                        attempts,
                        time.monotonic() - start,
                        _request_id(error),
                    ) from error
                span.event("retry", {"error.type": error.code().name})
            await asyncio.sleep(pause)


def _request_id(error: grpc.aio.AioRpcError) -> str:
    return sane_id((error.trailing_metadata() or {}).get(REQUEST_ID))


def _authorization(token: str | None) -> tuple[tuple[str, str], ...]:
    if token is None:
        return ()
    if not (token.isascii() and token.isprintable() and token == token.strip()):
        # The token is a secret, so the message does not show it.
        raise UserError("token: expected printable ASCII characters, received others")
    return (("authorization", f"Bearer {token}"),)


def _read(path: PathLike | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"TLS: cannot read {path}: {error.strerror}") from None
