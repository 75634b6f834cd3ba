"""What clients receive when a request fails: TensorFlow's code and a message.

Example:
```python
raise status_errors.not_found("Could not find any versions of model simcse")
```
"""

import logging

import tensorflow as tf

GRAPH_PREAMBLE = "<stack traces unavailable>\n"

# Every other code is a failure of the server, 500.
HTTP_STATUSES = {
    tf.errors.CANCELLED: 499,
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.DEADLINE_EXCEEDED: 504,
    tf.errors.NOT_FOUND: 404,
    tf.errors.ALREADY_EXISTS: 409,
    tf.errors.PERMISSION_DENIED: 403,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.ABORTED: 409,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.UNAUTHENTICATED: 401,
}

# A message may quote what the client sent, and gRPC sends messages in headers, which
# may have 8 KB; a character takes up to 12 bytes there.
MOST_CHARACTERS = 500

logger = logging.getLogger(__name__)


def invalid(message: str) -> tf.errors.InvalidArgumentError:
    """The request contradicts itself or the model's signature."""
    return tf.errors.InvalidArgumentError(None, None, message)


def not_found(message: str) -> tf.errors.NotFoundError:
    """The request names a model or version that is not loaded."""
    return tf.errors.NotFoundError(None, None, message)


def failed_precondition(message: str) -> tf.errors.FailedPreconditionError:
    """The request does not fit the model, or the state that the server is in."""
    return tf.errors.FailedPreconditionError(None, None, message)


def permission_denied(message: str) -> tf.errors.PermissionDeniedError:
    """The request is not for strangers."""
    return tf.errors.PermissionDeniedError(None, None, message)


def unavailable(message: str) -> tf.errors.UnavailableError:
    """The server has too much to do; the request may be tried again."""
    return tf.errors.UnavailableError(None, None, message)


def deadline_exceeded() -> tf.errors.DeadlineExceededError:
    """The answer would come too late."""
    return tf.errors.DeadlineExceededError(None, None, "Deadline Exceeded")


def cancelled(message: str) -> tf.errors.CancelledError:
    """Nobody waits for the answer any more."""
    return tf.errors.CancelledError(None, None, message)


def internal(message: str) -> tf.errors.InternalError:
    """The bytes are no request; TF Serving has the same code for them."""
    return tf.errors.InternalError(None, None, message)


def unimplemented(message: str) -> tf.errors.UnimplementedError:
    """The request needs something that only TF Serving offers."""
    return tf.errors.UnimplementedError(None, None, message)


def code(error: Exception) -> int:
    """Returns TensorFlow's code of an error, INTERNAL for any other exception.

    Args:
        error: Any exception.

    Example:
    ```python
    code(not_found("no model"))  # tf.errors.NOT_FOUND
    ```
    """
    if isinstance(error, tf.errors.OpError):
        return int(error.error_code)
    return int(tf.errors.INTERNAL)


def describe(error: Exception) -> tuple[int, str]:
    """Splits an exception into code and message.

    Args:
        error: TensorFlow's errors keep their own code; anything else is a
            failure of the server, INTERNAL, and is logged.

    Returns:
        TensorFlow's error code and the message for the client.

    Example:
    ```python
    describe(not_found("no model"))  # (tf.errors.NOT_FOUND, "no model")
    ```
    """
    if isinstance(error, tf.errors.OpError):
        # What the graph raises comes after a preamble about stack traces.
        message = error.message.rpartition(GRAPH_PREAMBLE)[2]
        return error.error_code, _shortened(message)
    logger.error("a request failed unexpectedly", exc_info=error)
    # Only its kind: the message may name files of the server.
    return tf.errors.INTERNAL, f"{type(error).__name__}: the server's log says more"


def _shortened(message: str) -> str:
    if len(message) <= MOST_CHARACTERS:
        return message
    return f"{message[:MOST_CHARACTERS]}... ({len(message)} characters)"
