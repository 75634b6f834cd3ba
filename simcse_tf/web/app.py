"""The page and its API as an application of aiohttp."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from aiohttp import typedefs, web

from simcse_tf.core.errors import UserError
from simcse_tf.core.printing import one_line
from simcse_tf.web import requests
from simcse_tf.web.guard import add_headers, guarding
from simcse_tf.web.models import Away
from simcse_tf.web.sides import Side

STATIC = Path(__file__).with_name("static")
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_PAGE = "index.html"

logger = logging.getLogger(__name__)


def make_app(sides: Sequence[Side], names: Collection[str] = ()) -> web.Application:
    """The page and what it asks, for one index or two.

    `GET /` is the page, `GET /api/sides` tells of the indexes,
    `POST /api/sides/N/search` and `POST /api/sides/N/similarity` ask the N-th.

    Args:
        sides: The indexes with their models. They are closed with the application.
        names: As for `guarding`.

    Example:

    ```python
    async with TestClient(TestServer(make_app([side]))) as client:
        await client.post("/api/sides/0/search", json={"query": "a guitar"})
    ```
    """
    api = _Api(sides)
    app = web.Application(
        middlewares=[_answering_in_one_line, guarding(names)],
        client_max_size=requests.LARGEST_BODY,
    )
    for path in STATIC.iterdir():
        url = "/" if path.name == _PAGE else f"/static/{path.name}"
        app.router.add_get(url, _file(path))
    app.router.add_get("/api/sides", api.about)
    app.router.add_post("/api/sides/{side}/search", api.search)
    app.router.add_post("/api/sides/{side}/similarity", api.similarity)
    app.on_response_prepare.append(add_headers)
    app.on_cleanup.append(api.close)
    return app


class _Api:
    """What the page asks of its sides."""

    def __init__(self, sides: Sequence[Side]):
        self._sides = sides

    async def about(self, request: web.Request) -> web.Response:
        sides = [await side.about() for side in self._sides]
        return web.json_response({"sides": sides, "most_hits": requests.MOST_HITS})

    async def search(self, request: web.Request) -> web.Response:
        side = self._side(request)
        wanted = requests.search_of(await requests.body_of(request))
        return web.json_response(await side.search(*wanted))

    async def similarity(self, request: web.Request) -> web.Response:
        side = self._side(request)
        a, b = requests.pair_of(await requests.body_of(request))
        return web.json_response(await side.similarity(a, b))

    async def close(self, app: web.Application) -> None:
        for side in self._sides:
            await side.close()

    def _side(self, request: web.Request) -> Side:
        number = request.match_info["side"]
        if number not in map(str, range(len(self._sides))):
            raise web.HTTPNotFound
        return self._sides[int(number)]


@web.middleware
async def _answering_in_one_line(
    request: web.Request, handler: typedefs.Handler
) -> web.StreamResponse:
    """Every error is one line in JSON; what is nobody's mistake is also logged."""
    try:
        return await handler(request)
    except Away as away:
        return _error(503, str(away))
    except UserError as error:
        return _error(400, str(error))
    except web.HTTPException as refused:
        return _error(refused.status, refused.text or refused.reason)
    except Exception:
        logger.exception("%s %s", request.method, request.path)
        return _error(500, "This is a defect of the demo; its log says more.")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": one_line(message)}, status=status)


def _file(path: Path) -> typedefs.Handler:
    # Not guessed, which a system's own table of types decides.
    headers = {"Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8"}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=headers)

    return answer
