"""Decides how much of what clients send is in memory at a time.

A request is admitted before its message is read, so what a client sends without being
admitted stays in its own connection's window of `channel_arguments.LOOKAHEAD_BYTES`.
"""

import asyncio
import contextlib
import functools
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from simcse_tf.server.connections import address_of

# Of one network address, and of all together: requests that are not answered yet, bytes
# of their messages, streams that report health.
OPEN_REQUESTS = (512, 4096)
MESSAGE_BYTES = (8 * 2**20, 32 * 2**20)
HEALTH_STREAMS = (16, 256)

# Messages that are arriving: of one connection, of one address, of all. Most arrive
# with their request and take no time; who sends slowly waits for himself.
ARRIVING = (1, 2, 8)
ARRIVAL_SECONDS = 10.0


class Full(Exception):
    """There is no room for a request; it may be sent again."""


class Room:
    """Counts what is in use, for each address and in all.

    Args:
        what: What is counted, for the message to a client that is refused.
        most: The most for one address, and for all together.

    Example:
    ```python
    room = Room("open requests", (512, 4096))
    with room.taken("ipv4:192.0.2.1"):
        ...
    ```
    """

    def __init__(self, what: str, most: tuple[int, int]):
        self._what = what
        self._most_of_one, self._most = most
        self._used: Counter[str] = Counter()
        self._total = 0

    @contextlib.contextmanager
    def taken(self, address: str, amount: int = 1) -> Iterator[None]:
        """Uses up room until the block ends.

        Args:
            address: Who uses it.
            amount: How much.

        Raises:
            Full: There is not as much left.
        """
        of_one = self._used[address] + amount > self._most_of_one
        if of_one or self._total + amount > self._most:
            limit = self._most_of_one if of_one else self._most
            whose = "of one address" if of_one else "in all"
            raise Full(f"at most {limit} {self._what} {whose}: try again later")
        self._used[address] += amount
        self._total += amount
        try:
            yield
        finally:
            self._total -= amount
            self._used[address] -= amount
            if not self._used[address]:
                del self._used[address]


class Turns:
    """Lets a few into a block at a time; the others wait.

    Args:
        most: How many with the same key.

    Example:
    ```python
    turns = Turns(4)
    async with turns.taken("ipv4:192.0.2.1:50000"):
        ...
    ```
    """

    def __init__(self, most: int):
        self._most = most
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._interested: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def taken(self, key: str) -> AsyncIterator[None]:
        """Waits for a turn, and has it until the block ends.

        Args:
            key: Whose turn it is.
        """
        turn = self._turns.setdefault(key, asyncio.Semaphore(self._most))
        self._interested[key] += 1
        try:
            async with turn:
                yield
        finally:
            self._interested[key] -= 1
            if not self._interested[key]:
                del self._interested[key], self._turns[key]


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admits requests before their messages are read.

    A client that has more open requests or bytes than its share gets
    RESOURCE_EXHAUSTED, and DEADLINE_EXCEEDED if its message does not arrive.

    Example:
    ```python
    server = grpc.aio.server(interceptors=[AdmissionInterceptor()])
    ```
    """

    def __init__(self) -> None:
        self._requests = Room("open requests", OPEN_REQUESTS)
        self._streams = Room("health streams", HEALTH_STREAMS)
        self._bytes = Room("bytes of requests", MESSAGE_BYTES)
        self._arriving = [Turns(most) for most in ARRIVING]

    async def intercept_service(
        self, continuation: Any, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Puts admission before a method that takes one message."""
        handler = await continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        # On the wire a stream of one message is the same; here it can be left unread.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._admitted(handler, handler.unary_stream, self._streams),
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._admitted(handler, handler.unary_unary, self._requests),
            response_serializer=handler.response_serializer,
        )

    def _admitted(self, handler: grpc.RpcMethodHandler, method: Any, room: Room) -> Any:
        async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
            peer = context.peer()
            address = network_of(peer)
            try:
                with room.taken(address):
                    message = await self._message(peer, address, context)
                    with self._bytes.taken(address, len(message)):
                        work = method(await _parsed(handler, message, context), context)
                        message = b""
                        return await work
            except Full as error:
                refusal = str(error)
            # gRPC keeps this frame for a while: it must not hold the message.
            message = b""
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, refusal)

        return answer

    async def _message(
        self, peer: str, address: str, context: grpc.aio.ServicerContext
    ) -> bytes:
        of_connection, of_address, of_all = self._arriving
        try:
            async with (
                of_connection.taken(peer),
                of_address.taken(address),
                of_all.taken(""),
            ):
                message = await asyncio.wait_for(context.read(), ARRIVAL_SECONDS)
        except asyncio.TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the message did not arrive within {ARRIVAL_SECONDS:g} s",
            )
        if message is grpc.aio.EOF:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "expected a message, received none"
            )
        assert isinstance(message, bytes)
        return message


@functools.lru_cache(1024)
def network_of(peer: str) -> str:
    """Returns who a client is, whichever port it came from.

    Args:
        peer: gRPC's name of the other end, such as `ipv4:192.0.2.1:50000`.

    Returns:
        What `connections.address_of` makes of it.

    Example:
    ```python
    network_of("ipv6:%5B2001:db8::1%5D:50000")  # "2001:db8::/64"
    ```
    """
    host = urllib.parse.unquote(peer.partition(":")[2].rpartition(":")[0])
    try:
        return address_of(host.strip("[]"))
    except ValueError:  # a socket of this machine, which has no address
        return peer


async def _parsed(
    handler: grpc.RpcMethodHandler, message: bytes, context: grpc.aio.ServicerContext
) -> Any:
    if handler.request_deserializer is None:
        return message
    try:
        return handler.request_deserializer(message)
    except DecodeError as error:
        await context.abort(grpc.StatusCode.INTERNAL, str(error))
