"""The channel to a server: its options, TLS and the token."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

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


@dataclass(frozen=True)
class Tls:
    """Files in PEM format for an encrypted connection.

    Args:
        ca: Certificates of the authorities that the server's certificate may come
            from. Defaults to gRPC's own list.
        certificate: The client's certificate, for a server that asks for one.
        key: The private key of `certificate`.
    """

    ca: PathLike | None = None
    certificate: PathLike | None = None
    key: PathLike | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            UserError: One cannot be read, or certificate and key are not together.
        """
        if (self.certificate is None) != (self.key is None):
            raise UserError("TLS: expected a certificate and its key, received one")
        return grpc.ssl_channel_credentials(
            _read(self.ca), _read(self.key), _read(self.certificate)
        )


def open_channel(
    target: str, tls: Tls | None, options: Sequence[tuple[str, Any]]
) -> grpc.aio.Channel:
    """Opens a channel on the running event loop; connects at the first request.

    Args:
        target: "HOST:PORT".
        tls: Files for an encrypted connection, or none for a plain one.
        options: gRPC channel options, in place of ours where both have one.

    Raises:
        UserError: A file of `tls` cannot be read.
    """
    every = list({**CHANNEL_OPTIONS, **dict(options)}.items())
    if tls is None:
        return grpc.aio.insecure_channel(target, options=every)
    return grpc.aio.secure_channel(target, tls.credentials(), options=every)


def authorization(token: str | None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of every request.

    Raises:
        UserError: The token holds what a header cannot; it is not shown.
    """
    if token is None:
        return ()
    if not (token.isascii() and token.isprintable() and token == token.strip()):
        raise UserError("token: expected printable ASCII characters, received others")
    return (("authorization", f"Bearer {token}"),)


def _read(path: PathLike | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"TLS: cannot read {path}: {error.strerror}") from None
