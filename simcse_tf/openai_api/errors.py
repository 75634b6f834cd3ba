"""What a client is told when a request fails."""

import json
from typing import Any

# Of the words of others that a message quotes, such as a model's name.
LONGEST_QUOTE = 100

WRONG_KEY = "expected the header: authorization: Bearer TOKEN, with the server's token"


class ApiError(Exception):
    """An answer that is an error, in OpenAI's form.

    Args:
        status: int. The HTTP status.
        message: string. What was expected, what was received, what to do.
        param: Optional string. The field of the request that is wrong.
        code: Optional string. A name for the mistake that programs can read.
        retry_after: Optional int. Seconds after which the same request may succeed.

    Example:

    ```python
    raise ApiError(404, "there is no model 'bert'", "model", "model_not_found")
    ```

    Reference:

    - [OpenAI's error codes](https://platform.openai.com/docs/guides/error-codes)
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """Whose fault it is, in OpenAI's words."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> bytes:
        """The answer's body: a JSON object."""
        error: dict[str, Any] = {
            "message": str(self),
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()


def wrong_key() -> ApiError:
    """The error of a request without the API key that the server asks for."""
    return ApiError(401, WRONG_KEY, code="invalid_api_key")


def overloaded(message: str) -> ApiError:
    """The error of a request for which there is no room now.

    Args:
        message: string. What there is too much of.
    """
    return ApiError(503, message, code="overloaded", retry_after=1)


def unknown_model(name: str, known: list[str]) -> ApiError:
    """The error of a request that names a model which is not served.

    Args:
        name: string. What it names.
        known: list of strings. The models that there are.
    """
    return ApiError(
        404,
        f"there is no model {quoted(name)}: expected one of {', '.join(known)}",
        "model",
        "model_not_found",
    )


def quoted(text: str) -> str:
    """The words of a client, for a message: on one line and not too long.

    Args:
        text: string.

    Example:

    ```python
    quoted("a\\nb")  # "'a\\\\nb'"
    ```
    """
    cut = text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
    return ascii(cut)
