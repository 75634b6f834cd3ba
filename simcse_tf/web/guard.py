"""What each request and each response must be, because a browser brings strangers.

A page of another site may make its reader's browser send requests here, and, with a
name of its own that it lets point to this machine (DNS rebinding), read the answers.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import typedefs, web

HEADERS = {
    # The page's own files and nothing else; no text becomes a script or a style.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def guarding(names: Collection[str] = ()) -> typedefs.Middleware:
    """A middleware that refuses requests which another site may have caused.

    Args:
        names: Names under which the page may be opened, besides `localhost` and any
            numeric address: to rebind it, a stranger needs a name.

    Example:

    ```python
    web.Application(middlewares=[guarding({"demo.example"})])
    ```
    """
    allowed = {"localhost", *(name.lower() for name in names)}

    @web.middleware
    async def guard(
        request: web.Request, handler: typedefs.Handler
    ) -> web.StreamResponse:
        host = _name_of(request.headers.get("Host", ""))
        if host not in allowed and not _is_address(host):
            raise web.HTTPForbidden(
                text=f"Open the page as localhost or by its address, not as {host!r}."
            )
        if request.path.startswith("/api/") and not _is_own(request):
            raise web.HTTPForbidden(text="Only the page itself may ask this.")
        return await handler(request)

    return guard


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Adds `HEADERS` to a response, as a signal of aiohttp's `on_response_prepare`.

    Example:

    ```python
    app.on_response_prepare.append(add_headers)
    ```
    """
    response.headers.update(HEADERS)


def _is_own(request: web.Request) -> bool:
    """Whether no other site has caused a request, as far as the browser tells."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in (
        "same-origin",
        "none",
    ):
        return False
    origin = request.headers.get("Origin")
    own = [f"{scheme}://{request.headers.get('Host')}" for scheme in ("http", "https")]
    return origin is None or origin in own


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
