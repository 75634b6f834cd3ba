"""What a client of the gateway is told when the model server fails."""

import logging

import grpc

from simcse_tf.client import ServerError, VersionChanged
from simcse_tf.client.retry import TOO_LARGE
from simcse_tf.core.errors import UserError
from simcse_tf.openai_api.errors import ApiError, overloaded
from simcse_tf.server.http_server import RARE_LINES

STATUSES = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.CANCELLED: 503,
    # The gateway serves the model, and the model server has it not loaded.
    grpc.StatusCode.NOT_FOUND: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Of a server with a full queue, TF Serving and the Python server.
FULL = "queue"

logger = logging.getLogger(__name__)
logger.addFilter(RARE_LINES)  # a request may cause one


def is_busy(error: ServerError) -> bool:
    """Whether the model server refuses a request because it has many.

    Args:
        error: What a request failed with.

    Example:
    ```python
    is_busy(ServerError(target, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many"))
    ```
    """
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TOO_LARGE not in error.details
    return error.code is grpc.StatusCode.UNAVAILABLE and FULL in error.details


def to_api_error(error: UserError) -> ApiError:
    """Tells of a failed request in OpenAI's form.

    The log has the client's own words, which name addresses behind the gateway.

    Args:
        error: What the client raised.

    Example:
    ```python
    raise to_api_error(error) from error
    ```
    """
    if isinstance(error, VersionChanged):
        return ApiError(
            503,
            "the model changed its version during the request, and again during the "
            "next try: try again later",
            code="version_changed",
            retry_after=1,
        )
    if isinstance(error, ServerError) and is_busy(error):
        return overloaded("the model server has too many requests: try again later")
    kind = error.code.name if isinstance(error, ServerError) else "its answer"
    logger.warning(f"a request to the model server failed ({kind}): %s", error)
    if not isinstance(error, ServerError):
        return ApiError(502, "the model server's answer is none: the log says more")
    if TOO_LARGE in error.details:
        return ApiError(413, "a text is larger than the model server takes", "input")
    status = STATUSES.get(error.code, 502)
    retry_after = 1 if status == 503 else None
    return ApiError(
        status,
        f"the model server failed with {error.code.name}: the gateway's log says more",
        retry_after=retry_after,
    )
