"""What a client of the gateway is told when the model server fails."""

import grpc

from simcse_tf.client import ServerError, VersionChanged
from simcse_tf.client.retry import TOO_LARGE
from simcse_tf.core.errors import UserError
from simcse_tf.openai_api.errors import ApiError, overloaded

STATUSES = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.CANCELLED: 503,
    # The gateway serves the model, and the model server has it not loaded.
    grpc.StatusCode.NOT_FOUND: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Of a server with a full queue, TF Serving and the Python server.
FULL = "queue"


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
    if not isinstance(error, ServerError):
        return ApiError(502, str(error))
    if is_busy(error):
        return overloaded("the model server has too many requests: try again later")
    if TOO_LARGE in error.details:
        return ApiError(413, "a text is larger than the model server takes", "input")
    status = STATUSES.get(error.code, 502)
    retry_after = 1 if status == 503 else None
    message = f"the model server: {error.code.name}: {error.details}"
    return ApiError(status, message, retry_after=retry_after)
