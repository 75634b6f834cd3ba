"""Strangers who hold connections and send bytes, and the neighbours they may hurt."""

import contextlib
import http.client
import json
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil

from simcse_tf.client import Client
from support.models import ROOT

# Linux answers on all of 127.0.0.0/8: the strangers come from another address.
STRANGER = "127.0.0.2"
PREDICT = "/v1/models/simcse:predict"
TEXT = "A man is playing a guitar on the stage of a small town."


def neighbours_p95(target: str, rest_port: int, seconds: float) -> dict[str, float]:
    """Measures two clients, over gRPC and REST, each with one text at a time.

    They are in a process of their own. Each REST request has a connection of its own,
    and each text is new.

    Returns:
        The 95th percentile in milliseconds, inf if more than 5% got no answer.
    """
    command = [sys.executable, "-m", "support.attacks", target, str(rest_port)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [*command, str(seconds)], env=environment, capture_output=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _measure(target: str, rest_port: int, seconds: float) -> dict[str, float]:
    client = Client(target, timeout=10)
    asks: dict[str, Callable[[str], object]] = {
        "gRPC": lambda text: client.encode([text]),
        "REST": lambda text: _expect_ok(predict(rest_port, [text])),
    }
    for ask in asks.values():
        with contextlib.suppress(Exception):
            ask("The first request takes longer.")
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(len(asks)) as threads:
        running = {
            name: threads.submit(_times, name, ask, until) for name, ask in asks.items()
        }
    return {
        name: round(1000 * float(np.percentile(it.result(), 95, method="lower")), 1)
        for name, it in running.items()
    }


def _times(name: str, ask: Callable[[str], object], until: float) -> list[float]:
    times = []
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            ask(f"{TEXT} {name} {len(times)}")
        except Exception:
            times.append(float("inf"))
            time.sleep(0.1)
        else:
            times.append(time.monotonic() - start)
        time.sleep(0.02)
    return times


def _expect_ok(status: int) -> None:
    if status != 200:
        raise OSError(f"status {status}")


def predict(port: int, texts: list[str], source: str | None = None) -> int:
    """Asks over a new connection; returns the status."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=10, source_address=(source, 0) if source else None
    )
    with contextlib.closing(connection):
        connection.request("POST", PREDICT, json.dumps({"instances": texts}))
        response = connection.getresponse()
        response.read()
        return response.status


def connect(port: int, source: str = STRANGER) -> socket.socket:
    """Opens a connection from a stranger's address."""
    return socket.create_connection(
        ("127.0.0.1", port), timeout=10, source_address=(source, 0)
    )


@contextlib.contextmanager
def many(
    port: int, count: int, sent: bytes = b"", sources: Iterable[str] = (STRANGER,)
) -> Iterator[list[socket.socket]]:
    """Holds connections that have sent something, and then nothing."""
    sources = list(sources)
    held: list[socket.socket] = []
    try:
        for number in range(count):
            with contextlib.suppress(OSError):
                held.append(connect(port, sources[number % len(sources)]))
                held[-1].sendall(sent)
        yield held
    finally:
        for connection in held:
            connection.close()


def still_open(connections: list[socket.socket]) -> int:
    """Counts the connections that the server has not closed."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN | select.POLLHUP)
    return len(connections) - len(poller.poll(0))


class Memory:
    """Follows the resident memory of a process, in MB, while a block runs."""

    def __init__(self, pid: int):
        self._process = psutil.Process(pid)
        self.before = self.peak = self.after = 0.0

    def __enter__(self) -> "Memory":
        self.before = self.peak = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        time.sleep(2)
        self.after = self._now()

    def _now(self) -> float:
        return self._process.memory_info().rss / 1e6

    def _follow(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self._now())

    @property
    def growth(self) -> float:
        """The peak's share above the start."""
        return self.peak / self.before - 1

    def __str__(self) -> str:
        return (
            f"{self.before:.0f} MB before, peak {self.peak:.0f} MB "
            f"(+{self.growth:.0%}), {self.after:.0f} MB 2 s after"
        )


def send(
    port: int, head: str, chunks: Iterable[bytes], seconds: float = 120
) -> tuple[int, float]:
    """Sends a request as a stranger; returns the status, 0 for none, and the time."""
    start = time.monotonic()
    with contextlib.closing(connect(port)) as connection:
        connection.settimeout(seconds)
        # A server may refuse and close before it has read all.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head.encode())
            for chunk in chunks:
                connection.sendall(chunk)
        try:
            received = connection.recv(64)
        except (TimeoutError, ConnectionResetError):
            received = b""
    status = int(received.split()[1]) if received.startswith(b"HTTP/1.") else 0
    return status, time.monotonic() - start


def post(length: int | None, *headers: str) -> str:
    """The head of a prediction request with a body of `length` bytes, or in chunks."""
    body = (
        "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    )
    return "\r\n".join([f"POST {PREDICT} HTTP/1.1", "Host: x", body, *headers, "", ""])


def allow_descriptors() -> None:
    """Lets this process hold as many connections as the system allows it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
