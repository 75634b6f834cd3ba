"""The connection to a server: its channel, TLS and token, and how requests are sent."""

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from simcse_tf.client.retry import RETRYABLE, Retry, ServerError
from simcse_tf.core.errors import UserError

# Large batches of wide embeddings pass gRPC's default limit of 4 MB. A model
# server is next door, not behind the proxy that the environment may name. A
# server that is just starting should be found within a second of its start.
CHANNEL_OPTIONS = {
    "grpc.max_receive_message_length": -1,
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
        return grpc.ssl_channel_credentials(
            _read(self.ca), _read(self.key), _read(self.certificate)
        )


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
            response_deserializer=response_type.FromString,
        )

        async def send(request: Message, end: float, retry: Retry | None = None) -> M:
            response: M = await self._send(call, request, end, retry or self._retry)
            return response

        return send

    async def _send(self, call: Any, request: Message, end: float, retry: Retry) -> Any:
        start = time.monotonic()
        pauses = retry.pauses(start, end)
        attempts = 0
        while True:
            attempts += 1
            remaining = min(self._timeout, end - time.monotonic())
            try:
                return await call(request, timeout=remaining, metadata=self._headers)
            except grpc.aio.AioRpcError as error:
                pause = next(pauses, None) if error.code() in RETRYABLE else None
                if pause is None:
                    raise ServerError(
                        self._target,
                        error.code(),
                        error.details() or "",
                        attempts,
                        time.monotonic() - start,
                    ) from error
            await asyncio.sleep(pause)


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
