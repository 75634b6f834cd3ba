"""The errors of requests, and which requests are sent again."""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from simcse_tf.core.errors import UserError
from simcse_tf.core.printing import LONGEST, printable

# The server is not there (it restarts, its queue is full), or it has no room; gRPC
# itself cancels what a server in Python has no time to look at. The same request may
# succeed in a while. After any other code it would fail again, or it has already taken
# all the time that it was given.
RETRYABLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)
# What gRPC says of a message that no attempt makes smaller.
TOO_LARGE = "message larger than max"

# Seconds. An attempt with less time would only report that its time was over, and hide
# what was wrong before.
_SHORTEST_ATTEMPT = 0.05


def is_retryable(code: grpc.StatusCode, details: str) -> bool:
    """Whether the same request may succeed later.

    Args:
        code: gRPC's code.
        details: The server's own words.

    Example:
    ```python
    is_retryable(grpc.StatusCode.UNAVAILABLE, "the queue is full")  # True
    ```
    """
    return code in RETRYABLE and TOO_LARGE not in details


class ServerError(UserError):
    """A request that the server refused, failed or never received.

    Args:
        target: The server's address.
        code: gRPC's code, such as `grpc.StatusCode.NOT_FOUND`.
        details: The server's own words.
        attempts: How often the request was sent.
        seconds: How long that took in all.
        request_id: What the server's log calls the request, if it said so.

    Attributes:
        code: As given.
        details: As given, at most 1,000 characters.
        attempts: As given.
        seconds: As given.
        request_id: As given.
        retryable: Whether the same request may succeed later.

    Example:
    ```python
    try:
        embeddings = client.encode(texts)
    except ServerError as error:
        print(error.code, error.details)
    ```
    """

    def __init__(
        self,
        target: str,
        code: grpc.StatusCode,
        details: str,
        attempts: int = 1,
        seconds: float = 0.0,
        request_id: str = "",
    ):
        details = printable(details, LONGEST)
        reached = code is not grpc.StatusCode.UNAVAILABLE
        fault = "error from" if reached else "cannot reach"
        tried = f" ({attempts} attempts in {seconds:.1f} s)" if attempts > 1 else ""
        named = f" [request {request_id}]" if request_id else ""
        super().__init__(
            f"{fault} the server at {target}: {code.name}: {details}{tried}{named}"
        )
        self.code = code
        self.details = details
        self.attempts = attempts
        self.seconds = seconds
        self.request_id = request_id
        self.retryable = is_retryable(code, details)


class VersionChanged(UserError):
    """The server changed to another version of the model during a call.

    Embeddings of two versions are not comparable, so one call never returns both.

    Args:
        before: The version that gave the first answers of the call.
        now: The version that gave the last one.

    Example:
    ```python
    try:
        embeddings = client.encode(texts)
    except VersionChanged:
        embeddings = client.encode(texts)
    ```
    """

    def __init__(self, before: int, now: int):
        super().__init__(
            f"the server changed from version {before} to {now} during the call: "
            f"start it again, or choose a version that stays loaded"
        )


@dataclass(frozen=True)
class Retry:
    """How long and how often a request is sent again.

    A request is sent again after UNAVAILABLE, RESOURCE_EXHAUSTED and CANCELLED (by
    the server) only, and not if the message is too large. The pause before the next
    attempt is drawn evenly from zero to a limit, which doubles from attempt to attempt
    (full jitter: many clients do not come back at once).

    Args:
        seconds: No attempt begins later than this after the first. The default
            outlives the restart of a server.
        attempts: The most attempts, the first included; 1 for no retries.
        first: The limit of the first pause, in seconds.
        longest: The limit of every pause, in seconds.

    Raises:
        UserError: A number is too small.

    Example:
    ```python
    client = Client("127.0.0.1:8500", retry=Retry(seconds=10))
    ```
    """

    seconds: float = 60.0
    attempts: int = 60
    first: float = 0.1
    longest: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise UserError(f"attempts: expected 1 or more, received {self.attempts}")
        for name in ("seconds", "first", "longest"):
            if not getattr(self, name) >= 0:
                raise UserError(
                    f"{name}: expected 0 or more, received {getattr(self, name)}"
                )

    def pauses(self, start: float, end: float = math.inf) -> Iterator[float]:
        """Draws the pauses between attempts, until attempts or time are used up.

        Args:
            start: When the first attempt began, by `time.monotonic()`.
            end: When an attempt would come too late, by the same clock.

        Yields:
            Seconds; each is drawn when an attempt has failed.
        """
        limit = self.first
        for _ in range(self.attempts - 1):
            limit = min(limit, self.longest)
            now = time.monotonic()
            pause = min(random.uniform(0, limit), start + self.seconds - now)
            if pause < 0 or now + pause >= end - _SHORTEST_ATTEMPT:
                return
            yield pause
            limit *= 2
