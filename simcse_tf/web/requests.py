"""What the page may ask: JSON, read and checked."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from aiohttp import web

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened

# Of a text, in characters, and of a body, in bytes: JSON may take twelve for one.
LONGEST_TEXT = 200_000
LARGEST_BODY = 4 * 2**20
MOST_HITS = 100


class Search(NamedTuple):
    """What is searched for.

    Attributes:
        query: string.
        k: int. From 1 to `MOST_HITS`.
        threshold: Optional float. The least cosine.
        where: Optional string. What the metadata must be.

    Example:

    ```python
    Search("a guitar", k=5, threshold=None, where=None)
    ```
    """

    query: str
    k: int
    threshold: float | None
    where: str | None


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that a request brings.

    Args:
        request: The request.

    Raises:
        UserError: If it brings something else.

    Example:

    ```python
    body = await body_of(request)
    ```
    """
    if request.content_type != "application/json":
        raise UserError("expected the content type application/json")
    if "Content-Encoding" in request.headers:
        raise UserError("expected a body that is not compressed")
    try:
        body = json.loads(await request.read(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise UserError("expected JSON") from None
    if not isinstance(body, dict):
        raise UserError("expected a JSON object")
    return body


def search_of(body: dict[str, Any]) -> Search:
    """A search, out of a request's body.

    Args:
        body: Its keys are those of `Search`; all but `query` may be left out.

    Raises:
        UserError: If there are other keys, or a value cannot be.

    Example:

    ```python
    search_of({"query": "a guitar", "k": 5}).threshold  # None
    ```
    """
    _check_keys(body, *Search._fields)
    k = body.get("k", 10)
    if type(k) is not int or not 1 <= k <= MOST_HITS:
        raise UserError(f"k: expected 1 to {MOST_HITS}, received {_told(k)}")
    threshold = body.get("threshold")
    if threshold is not None and (
        type(threshold) not in (int, float) or not -1 <= threshold <= 1
    ):
        raise UserError(f"threshold: expected -1 to 1, received {_told(threshold)}")
    where = None if body.get("where") is None else _text(body, "where")
    return Search(_text(body, "query"), k, threshold, where)


def pair_of(body: dict[str, Any]) -> tuple[str, str]:
    """Two sentences, out of a request's body.

    Args:
        body: Its keys are `a` and `b`.

    Raises:
        UserError: If there are other keys, or a value is no text.

    Example:

    ```python
    pair_of({"a": "A man plays.", "b": "It rains."})
    ```
    """
    _check_keys(body, "a", "b")
    return _text(body, "a"), _text(body, "b")


def _check_keys(body: dict[str, Any], *expected: str) -> None:
    for key in body:
        if key not in expected:
            raise UserError(f"expected {', '.join(expected)}, received {_told(key)}")


def _text(body: dict[str, Any], key: str) -> str:
    text = body.get(key)
    if not isinstance(text, str):
        raise UserError(f"{key}: expected a text, received {_told(text)}")
    if len(text) > LONGEST_TEXT:
        raise UserError(
            f"{key}: expected at most {LONGEST_TEXT:,} characters, received "
            f"{len(text):,}"
        )
    return text


def _told(value: Any) -> str:
    return shortened(json.dumps(value))


def _refuse(constant: str) -> None:
    raise ValueError(constant)
