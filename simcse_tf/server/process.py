"""What a serving process tells, and is told. Needs no TensorFlow."""

import asyncio
import logging
import os
import signal
import sys

from simcse_tf.server.options import is_loopback

GRACE_SECONDS = 20.0  # orchestrators kill about 30 s after asking

# A terminal that closes sends SIGHUP.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

logger = logging.getLogger(__name__)


def announce(text: str) -> None:
    """Prints a line. That nobody reads it is no reason not to serve.

    Args:
        text: The line.

    Example:
    ```python
    announce("Serving simcse version 1 at 127.0.0.1:8500")
    ```
    """
    try:
        print(text, flush=True)
    except OSError as error:
        logger.warning("cannot write to stdout: %s", error.strerror)


def warn_if_open_to_all(host: str, what: str) -> None:
    """Says so if other machines' users reach a process that asks for no secret.

    Args:
        host: Name or address that it listens on.
        what: The process, in a word.

    Raises:
        socket.gaierror: There is no such host.

    Example:
    ```python
    warn_if_open_to_all("0.0.0.0", "server")
    ```
    """
    if not is_loopback(host):
        print(
            f"note: whoever reaches {host} can use this {what}: there is "
            f"neither --token_file nor --ssl_config_file",
            file=sys.stderr,
        )


def stop_signal() -> asyncio.Future[None]:
    """Returns a future that a stop signal resolves; a second one ends the process.

    Example:
    ```python
    await stop_signal()
    ```
    """
    loop = asyncio.get_running_loop()
    stopping = loop.create_future()

    def stop() -> None:
        # A second signal ends the process at once.
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, os._exit, 128 + number)
        stopping.set_result(None)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    return stopping


def in_address(host: str) -> str:
    """Writes a host as it stands before a port.

    Args:
        host: Name or address.

    Example:
    ```python
    in_address("::1")  # "[::1]"
    ```
    """
    return f"[{host}]" if ":" in host else host
