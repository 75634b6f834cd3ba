"""Reads the bodies of HTTP requests, within limits of size, time and memory."""

import asyncio
import contextlib
import logging
import time
import zlib
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from simcse_tf.server.http_server import connection_of

# Bodies up to this size are always read. Larger ones share a room, with places for a
# few of the largest; one address gets half of it.
SMALL_BYTES = 2**16
PLACES = 6

# Large bodies of one address are read at this speed in all: so much of it is left for
# the other clients, whatever the bodies hold.
LARGE_BYTES_A_SECOND = 16 * 2**20
ADDRESSES = 1000  # whose speed is known

# What a value in JSON counts for: one of 3 bytes may take 88 bytes of memory, and time.
VALUE_BYTES = 64

# The most small chunks of a chunked body: one costs much more time than its bytes.
SMALL_CHUNKS = 1000
SMALL_CHUNK_BYTES = 64


logger = logging.getLogger(__name__)


class Refused(Exception):
    """The body will not be read, or no further.

    Args:
        status: The HTTP status of the answer.
        message: What the client is told.

    Example:
    ```python
    raise Refused(413, "the request body has more than 8388608 bytes")
    ```
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Bodies:
    """Reads bodies and knows how many bytes of them are in memory.

    Args:
        most: The most bytes of one body, also without its compression.
        seconds: The longest that a client may take to send one.

    Example:
    ```python
    bodies = Bodies(8 * 2**20, seconds=60)
    with bodies.room("192.0.2.1") as room:
        body = await bodies.read(request, room)
        ...
    ```
    """

    def __init__(self, most: int, seconds: float):
        self.most = most
        self._seconds = seconds
        self._held: Counter[str] = Counter()
        self._free_at: dict[str, float] = {}

    @contextlib.contextmanager
    def room(self, address: str) -> Iterator["Room"]:
        """Holds the memory of one request until its answer is there.

        Args:
            address: Whom it counts for.
        """
        room = Room(self, address)
        try:
            yield room
        finally:
            self._held[address] -= room.bytes
            if not self._held[address]:
                del self._held[address]

    def take(self, address: str, count: int, is_large: bool) -> float:
        """Counts bytes of one request.

        Args:
            address: Whom they count for.
            count: How many more they are.
            is_large: Whether the request is one of those that share the room.

        Returns:
            How long the reader has to wait now, in seconds.

        Raises:
            Refused: There is no room for a large request.
        """
        self._held[address] += count
        if not is_large:
            return 0.0
        most = PLACES * self.most
        if self._held[address] > most // 2 or self._held.total() > most:
            raise Refused(429, "too many large requests at once: try again later")
        now = time.monotonic()
        free_at = max(now, self._free_at.pop(address, now))
        self._free_at[address] = free_at + count / LARGE_BYTES_A_SECOND
        if len(self._free_at) > ADDRESSES:
            del self._free_at[next(iter(self._free_at))]  # the longest unused
        return free_at - now

    async def read(self, request: web.BaseRequest, room: "Room") -> bytes:
        """Reads a body, and decompresses it.

        Args:
            request: The request.
            room: What `room` returned.

        Raises:
            Refused: The body is too large, comes too slowly, or is compressed in an
                unknown way or wrongly.
            ConnectionError: The client has left, or sends tiny chunks.
        """
        if (request.content_length or 0) > self.most:
            raise self._too_large()
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise Refused(
                415, "Content-Encoding: expected gzip or deflate, each once, or none"
            )
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer has not begun
        try:
            body = await asyncio.wait_for(self._received(request, room), self._seconds)
        except asyncio.TimeoutError:
            raise Refused(
                408, f"the request body took more than {self._seconds:g} s"
            ) from None
        if encoding == "identity":
            return body
        body = await asyncio.to_thread(self._decompressed, body, encoding)
        await room.take(len(body))
        return body

    async def _received(self, request: web.BaseRequest, room: "Room") -> bytes:
        # Requests without a body share one reader, which has no end the second time.
        if not request.body_exists:
            return b""
        body = bytearray()
        chunks = 0
        async for chunk, _ in request.content.iter_chunks():
            chunks += 1
            body += chunk
            await room.take(len(chunk))
            if len(body) > self.most:
                raise self._too_large()
            if chunks > SMALL_CHUNKS and len(body) < chunks * SMALL_CHUNK_BYTES:
                # An answer would have to wait for the rest.
                connection = connection_of(request)
                logger.warning("the chunks of %s are too small", connection.address)
                connection.abort()
                raise ConnectionAbortedError
        return bytes(body)

    def _decompressed(self, body: bytes, encoding: str) -> bytes:
        if encoding != "deflate":
            window = 16 + zlib.MAX_WBITS
        elif body[:1] and body[0] & 15 == 8:
            window = zlib.MAX_WBITS
        else:  # some send deflate without zlib's header
            window = -zlib.MAX_WBITS
        stream = zlib.decompressobj(window)
        try:
            text = stream.decompress(body, self.most + 1)
        except zlib.error as error:
            raise Refused(400, f"cannot read the request body: {error}") from None
        if len(text) > self.most:
            raise self._too_large()
        if not stream.eof or stream.unused_data:
            raise Refused(400, "cannot read the request body: expected one whole gzip")
        return text

    def _too_large(self) -> Refused:
        return Refused(
            413,
            f"the request body has more than {self.most} bytes: send fewer texts at "
            f"once, or start the server with a larger --rest_max_body_bytes",
        )


class Room:
    """The bytes that one request has in memory.

    Args:
        bodies: Those of all requests.
        address: Whom this one counts for.

    Example:
    ```python
    with bodies.room("192.0.2.1") as room:
        await room.take(1000)
    ```
    """

    def __init__(self, bodies: Bodies, address: str):
        self._bodies = bodies
        self._address = address
        self.bytes = 0

    @property
    def is_large(self) -> bool:
        """Whether the request is one of those that share the room."""
        return self.bytes > SMALL_BYTES

    async def take(self, count: int) -> None:
        """Counts bytes, and waits if the address has sent many.

        Args:
            count: How many more.

        Raises:
            Refused: The request is large, and there is no room for it.
        """
        self.bytes += count
        await asyncio.sleep(self._bodies.take(self._address, count, self.is_large))

    async def take_values(self, body: bytes) -> None:
        """Counts what the values of a body take once they are parsed.

        Args:
            body: JSON.

        Raises:
            Refused: They are too many, or there is no room for them.
        """
        count = count_values(body)
        most = self._bodies.most // VALUE_BYTES
        if count > most:
            raise Refused(
                413,
                f"the request body has {count} values, or commas and brackets in "
                f"texts: expected at most {most}; send fewer texts at once",
            )
        await self.take(count * VALUE_BYTES)


def count_values(body: bytes) -> int:
    """Returns how many values a body has at most, without parsing it.

    To parse `[[],[],...]` takes 30 times the memory of the body.

    Args:
        body: JSON. Commas and brackets in texts count as well.

    Example:
    ```python
    count_values(b'{"instances": ["Yes.", "No."]}')  # 3
    ```
    """
    return sum(body.count(sign) for sign in (b",", b"[", b"{"))  # one before each
