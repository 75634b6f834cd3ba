"""Which connections to the REST port are kept, and for how long.

A connection costs a descriptor and some memory, and a stranger can open thousands. One
that waits for its client, be it silent, slow to send or slow to read, is closed after a
time, or at once if another one needs its place.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

from simcse_tf.server import options

# A client has so long to send the head of a request; so long to send its body; and so
# long to read the answer and come with the next request.
WAIT_SECONDS = 60.0
HANDSHAKE_SECONDS = 10.0

# To parse chunks of few bytes takes far longer than their bytes: a millisecond for a
# thousand of them. Heads and JSON have longer lines.
SHORT_LINES = 128
SHORT_LINE_BYTES = 8

# What a client may send while its request is computed. HTTP allows further requests
# then, which stay in memory.
AHEAD_BYTES = 2**16

# What is received of a connection at a time; the system doubles it. To parse so many
# bytes of the smallest chunks keeps the others waiting for some milliseconds.
RECEIVED_BYTES = 2**15

BACKLOG = 1024
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Limits:
    """How many connections are kept.

    Args:
        in_all: The most of all clients together.
        of_an_address: The most of one IPv4 address or IPv6 network of 64 bits.
        wait_seconds: How long one waits for its client.

    Example:
    ```python
    Limits(in_all=4096, of_an_address=1024)
    ```
    """

    in_all: int = options.REST_CONNECTIONS
    of_an_address: int = options.REST_CONNECTIONS // 4
    wait_seconds: float = WAIT_SECONDS

    @classmethod
    def of_all(cls, in_all: int) -> "Limits":
        """Limits of which one address may have a quarter.

        Args:
            in_all: The most of all clients together.
        """
        return cls(in_all, max(in_all // 4, 1))

    @property
    def body_seconds(self) -> float:
        """How long a body may take.

        A little less, so that the client is told before its connection is closed.
        """
        return 0.9 * self.wait_seconds


class Connections:
    """Accepts connections and closes those that wait too long, or are too many.

    Beyond a limit, the connection that has waited longest makes room: among those of
    the same address, or among all. If none waits, because the requests of all are being
    computed, the new one is refused with 503.

    Args:
        new_handler: Makes the protocol that speaks HTTP on one connection.
        limits: How many are kept, and for how long.
        tls: Certificates to answer HTTPS with, instead of HTTP.

    Example:
    ```python
    connections = Connections(web.Server(answer), Limits())
    await connections.listen("127.0.0.1", 8501)
    await connections.close()
    ```
    """

    def __init__(
        self,
        new_handler: Callable[[], asyncio.Protocol],
        limits: Limits,
        tls: ssl.SSLContext | None = None,
    ):
        self.new_handler = new_handler
        self._limits = limits
        self._tls = tls
        self._all: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        # Since when they wait; the longest first.
        self._waiting: OrderedDict[Connection, float] = OrderedDict()
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> None:
        """Accepts connections from now on.

        Args:
            host: Name or address; "::" is every interface, for IPv4 as well.
            port: The port.

        Raises:
            OSError: The address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, address in {(it[0], it[4]) for it in found}:
            listener = socket.create_server(
                address, family=family, backlog=BACKLOG, dualstack_ipv6=host == "::"
            )
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
            listener.setblocking(False)
            self._listeners.append(listener)
            self._run(self._accept(listener))
        self._run(self._close_the_late())

    async def close(self) -> None:
        """Stops accepting; the connections stay as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def wait(self, connection: "Connection") -> None:
        """From now on the client has to do something, and has `wait_seconds` for it."""
        if connection in self._all:
            self._waiting[connection] = asyncio.get_running_loop().time()
            self._waiting.move_to_end(connection)

    def work(self, connection: "Connection") -> None:
        """From now on the client waits for the server."""
        self._waiting.pop(connection, None)

    def forget(self, connection: "Connection") -> None:
        """The connection is closed."""
        if connection in self._all:
            self._all.remove(connection)
            self._waiting.pop(connection, None)
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def _run(self, coroutine: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        """One at a time: requests that are running get their turn in between."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is free, or the client has left
                logger.warning("cannot accept connections: %s", error.strerror)
                self._close_longest_waiting(iter(self._waiting))
                await asyncio.sleep(0.1)
                continue
            self._admit(client, address_of(peer[0]))
            await asyncio.sleep(0)

    def _admit(self, client: socket.socket, address: str) -> None:
        if not self._make_room(address):
            logger.warning("too many connections: refused one from %s", address)
            with client, contextlib.suppress(OSError):
                if not self._tls:
                    client.send(BUSY)
            return
        connection = Connection(client, address, self)
        self._all.add(connection)
        self._of_address[address] += 1
        self.wait(connection)
        self._run(self._open(connection, client))

    def _make_room(self, address: str) -> bool:
        if self._of_address[address] >= self._limits.of_an_address:
            same = (it for it in self._waiting if it.address == address)
            return self._close_longest_waiting(same)
        if len(self._all) >= self._limits.in_all:
            return self._close_longest_waiting(iter(self._waiting))
        return True

    def _close_longest_waiting(self, candidates: "Iterator[Connection]") -> bool:
        connection = next(candidates, None)
        if connection is None:
            return False
        logger.warning(
            "too many connections: closed an idle one of %s", connection.address
        )
        connection.abort()
        return True

    async def _open(self, connection: "Connection", client: socket.socket) -> None:
        handshake = HANDSHAKE_SECONDS if self._tls else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                client,
                ssl=self._tls,
                ssl_handshake_timeout=handshake,
            )
        except OSError:  # the client has left, or knows no TLS
            self.forget(connection)

    async def _close_the_late(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._limits.wait_seconds / 2))
            longest = loop.time() - self._limits.wait_seconds
            for connection, since in list(self._waiting.items()):
                if since > longest:
                    break
                connection.abort()


class Connection(asyncio.Protocol):
    """One connection: the protocol that speaks HTTP on it, and what the limits need.

    Args:
        client: The socket.
        address: Whom it counts for.
        connections: All of them.

    Example:
    ```python
    connection = request.transport.get_protocol()
    with connection.working():
        ...
    ```
    """

    def __init__(self, client: socket.socket, address: str, connections: Connections):
        self.address = address
        self._client = client
        self._connections = connections
        self._handler: asyncio.Protocol | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._ahead = 0
        self._works = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is connected, with TLS the handshake is done as well."""
        self._transport = transport
        self._handler = self._connections.new_handler()
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Passes bytes on."""
        if self._works:
            self._ahead += len(data)
        short_lines = data.count(b"\r\n") > SHORT_LINES + len(data) // SHORT_LINE_BYTES
        if self._ahead > AHEAD_BYTES or short_lines:
            logger.warning("refused what a client of %s sends", self.address)
            self.abort()
            return
        assert self._handler
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        assert self._handler
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        """The client reads more slowly than the server writes."""
        assert self._handler
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        assert self._handler
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._connections.forget(self)
        if self._handler:
            self._handler.connection_lost(exc)

    def head_is_complete(self) -> None:
        """The time for the body begins."""
        self._connections.wait(self)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """While the block runs, the client waits for the server."""
        self._works, self._ahead = True, 0
        self._connections.work(self)
        try:
            yield
        finally:
            self._works = False
            self._connections.wait(self)

    def abort(self) -> None:
        """Closes the connection without waiting for the client."""
        self._connections.forget(self)
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()
        else:  # in the middle of the TLS handshake
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)


def address_of(host: str) -> str:
    """Returns whom a connection counts for.

    Args:
        host: Where it comes from.

    Returns:
        The IPv4 address; of an IPv6 address the network, which one client has whole.

    Example:
    ```python
    address_of("2001:db8::1")  # "2001:db8::/64"
    ```
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
