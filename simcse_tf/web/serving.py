"""Shows the page until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence

from aiohttp import web

from simcse_tf.core.errors import UserError
from simcse_tf.web.app import make_app
from simcse_tf.web.sides import Side

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE_SECONDS = 2.0


async def show(sides: Sequence[Side], host: str, port: int) -> None:
    """Shows the page until SIGTERM, SIGINT or SIGHUP; prints its URL on stdout.

    Args:
        sides: The indexes with their models. They are closed at the end.
        host: string. Name or address to listen on.
        port: int. 0 is a free one.

    Raises:
        UserError: If the address cannot be listened on.

    Example:

    ```python
    await show([side], "127.0.0.1", 8600)
    ```
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    # Strangers' bytes that are no HTTP.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    stopping = asyncio.Event()
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    runner = web.AppRunner(
        make_app(sides, names=[host]),
        access_log=None,
        # Who types on does not wait for an answer any more.
        handler_cancellation=True,
        shutdown_timeout=_GRACE_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"--port: cannot listen on {host}:{port}: {reason}"
            ) from None
        bound = runner.addresses[0][1]
        print(f"{_url(host, bound)}  (Ctrl-C stops it)", flush=True)
        await stopping.wait()
    finally:
        await runner.cleanup()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
