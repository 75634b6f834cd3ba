"""The client of a model server: TF Serving or the Python server."""

from simcse_tf.client.aio import AsyncClient
from simcse_tf.client.connection import Tls
from simcse_tf.client.counting import Counted, TextTooLong
from simcse_tf.client.hits import Hit
from simcse_tf.client.retry import Retry, ServerError, VersionChanged
from simcse_tf.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "Counted",
    "Hit",
    "Retry",
    "ServerError",
    "TextTooLong",
    "Tls",
    "VersionChanged",
]
