"""Several calls under way at a time, finished in the order of the requests."""

from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, Protocol, TypeVar


class Call(Protocol):
    """What `asyncio.Task` and `concurrent.futures.Future` have in common."""

    def cancel(self) -> bool: ...

    def cancelled(self) -> bool: ...

    def exception(self) -> BaseException | None: ...


C = TypeVar("C", bound=Call)


def ordered_requests(
    requests: Iterable[Coroutine[Any, Any, Any]],
    start: Callable[[Coroutine[Any, Any, Any]], C],
    concurrency: int,
) -> Generator[C, None, None]:
    """Starts calls and yields them, oldest first.

    Args:
        requests: Coroutines; the next one is taken when it can be started.
        start: Starts a coroutine.
        concurrency: The most calls under way, the one yielded last included.

    Yields:
        Calls to wait for. When the generator is closed, the others are cancelled.

    Example:
    ```python
    for call in ordered_requests(requests, asyncio.ensure_future, concurrency=8):
        answers.append(await call)
    ```
    """
    waiting: deque[C] = deque()
    try:
        for request in requests:
            waiting.append(start(request))
            if len(waiting) == concurrency:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for call in waiting:
            # A call that has failed already cannot be cancelled. Its exception is
            # retrieved, because asyncio complains of exceptions that nobody did.
            if not call.cancel() and not call.cancelled():
                call.exception()
