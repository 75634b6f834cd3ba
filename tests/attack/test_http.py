"""Strangers at the REST port: many, slow, silent, large, compressed, wrong.

The long part is marked `attack`: it prints what the attack did to memory and to others.
"""

import contextlib
import gzip
import http.client
import json
import logging
import random
import resource
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from support.attacks import (
    PREDICT,
    STRANGER,
    Memory,
    allow_descriptors,
    connect,
    many,
    neighbours_p95,
    post,
    predict,
    send,
    still_open,
)
from support.models import MINILM
from support.servers import (
    VERSION,
    environment,
    free_port,
    running_server,
    server_in_thread,
)

from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.connections import Limits, address_of
from simcse_tf.server.descriptors import raise_descriptor_limit, share_of_a_port
from simcse_tf.server.metrics import Metrics
from simcse_tf.server.rare_lines import RareLines
from simcse_tf.server.security import token_middleware
from simcse_tf.server.servable import Servable

TEXTS = b'{"instances": ["Yes."]}'
LARGEST = 200_000  # bytes of a body
SECONDS = 4  # of each measurement
SOUND = [
    {"instances": ["A man is playing a guitar.", "🎸é"]},
    {"instances": [{"text": "Yes."}, {"text": {"b64": "WWVz"}}]},
    {"signature_name": "similarity", "inputs": {"text_a": ["a"], "text_b": ["b"]}},
    {"signature_name": "half", "inputs": {"x": 1.5e3}},
    {"signature_name": "lengths", "instances": [{"b64": "AA=="}, '\u0000\n"\\']},
]
PIECES = [
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\\ud83c",
    b"\\u0000",
    b"\x00",
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"1e999",
    b"-0",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"9" * 400,
    b'"b64"',
    b'"instances"',
    b'"inputs"',
    b'"signature_name"',
    b'"text"',
    b"[[[[",
    b"{}",
    b"[]",
    b'{"b64": 1}',
]


@pytest.fixture(scope="module")
def start(base_path):
    """Starts servers in this process that have the limits that are asked for."""
    with ThreadPoolExecutor(1) as executor:
        servable = Servable(
            VERSION,
            base_path / str(VERSION),
            BatchingParameters(max_batch_size=64),
            executor,
            Metrics(),
            "simcse",
        )

        def start(in_all=100, of_an_address=50, seconds=60.0, **options):
            limits = Limits(in_all, of_an_address, seconds)
            options = {"max_body_bytes": LARGEST, **options}
            return server_in_thread(servable, limits=limits, **options)

        yield start


def answer(port: int, *sent: bytes, source: str = STRANGER) -> bytes:
    """Sends bytes as a stranger; returns all that comes until the connection closes."""
    received = b""
    with connect(port, source) as connection, contextlib.suppress(ConnectionError):
        for part in sent:
            connection.sendall(part)
        while part := connection.recv(2**16):
            received += part
    return received


def status(port: int, *headers: str, body: bytes = b"", length: int | None = 0) -> int:
    """Posts a body; returns the status, 0 if the connection was closed without one."""
    head = post(len(body) if length == 0 else length, *headers, "Connection: close")
    received = answer(port, head.encode(), body)
    return int(received.split()[1]) if received else 0


def test_the_connection_that_waited_longest_makes_room(start):
    with (
        start(in_all=6, of_an_address=4) as server,
        many(server.rest_port, 7) as strangers,
    ):
        time.sleep(0.3)
        assert [still_open([it]) for it in strangers] == [0, 0, 0, 1, 1, 1, 1]
        assert predict(server.rest_port, ["a"], STRANGER) == 200
        assert predict(server.rest_port, ["a"]) == 200
        with many(server.rest_port, 4, sources=["127.0.0.3"]) as others:
            time.sleep(0.3)
            assert (still_open(strangers), still_open(others)) == (2, 4)
            assert predict(server.rest_port, ["a"]) == 200


def test_a_connection_whose_request_is_computed_makes_no_room(start):
    body = json.dumps({"signature_name": "busy", "inputs": [1.0]}).encode()
    with (
        start(in_all=6, of_an_address=4) as server,
        many(server.rest_port, 4, post(len(body)).encode() + body) as working,
    ):
        time.sleep(0.3)
        refused = answer(server.rest_port)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in refused
        assert still_open(working) == 4
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        connection.request("GET", "/v1/models/simcse")
        assert connection.getresponse().status == 200
        assert all(it.recv(100).startswith(b"HTTP/1.1 200") for it in working)


def test_who_is_silent_or_slow_is_closed_after_a_time(start):
    get = b"GET /v1/models/simcse/metadata HTTP/1.1\r\nHost: x\r\n\r\n"
    with start(seconds=1.0) as server:
        sent = {
            "silent": b"",
            "slow to send a head": post(100).encode()[:40],
            "slow to send a body": post(100).encode() + b"{",
            "idle after an answer": get,
            "does not read": get * 20_000,
        }
        connections = {}
        for name, start_ in sent.items():
            connections[name] = connect(server.rest_port)
            connections[name].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connections[name].send(start_)
        for name, connection in connections.items():
            connection.settimeout(10)
            before = time.monotonic()
            with contextlib.suppress(ConnectionError):
                received = b""
                if name == "does not read":
                    time.sleep(2.5)
                while part := connection.recv(2**16):
                    received += part
            assert time.monotonic() - before < 5, name
            if name == "slow to send a body":
                assert received.startswith(b"HTTP/1.1 408")
        with many(server.rest_port, 1) as [new]:
            time.sleep(0.5)
            assert still_open([new]) == 1


def test_requests_are_not_piled_up_behind_one_that_is_computed(start):
    body = json.dumps({"signature_name": "busy", "inputs": [1.0]}).encode()
    request = post(len(body)).encode() + body
    with start() as server, many(server.rest_port, 2, request) as [few, many_]:
        time.sleep(0.2)
        few.sendall(post(len(TEXTS)).encode() + TEXTS)
        headers = [f"X-{number}: {'a' * 3000}" for number in range(10)]
        with contextlib.suppress(ConnectionError):
            many_.sendall((post(len(TEXTS), *headers).encode() + TEXTS) * 10)
        time.sleep(0.2)
        assert still_open([few, many_]) == 1
        answers = http.client.HTTPResponse(few)
        answers.begin()
        assert (answers.status, "passed" in answers.read().decode()) == (200, False)


@pytest.mark.parametrize(
    "head",
    [
        post(0, "X: " + "a" * 5000),
        post(0, *(f"X{i}: a" for i in range(100))),
        "GET /" + "a" * 5000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["line", "lines", "path"],
)
def test_a_head_has_a_limit(start, head, caplog):
    with start() as server:
        assert answer(server.rest_port, head.encode()).split()[1] == b"400"
    assert not caplog.records


def text_of(size: int, text: bytes = b"a") -> bytes:
    return b'{"instances": ["%s"]}' % (text * ((size - 19) // len(text)))


def in_chunks(body: bytes, size: int) -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return chunks + b"0\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


def test_a_body_has_a_limit(start):
    with start() as server:
        port = server.rest_port
        assert status(port, body=text_of(LARGEST)) == 200
        with connect(port) as connection:
            connection.sendall(post(LARGEST + 1).encode())  # and no byte of it
            assert connection.recv(100).split()[1] == b"413"
        assert [status(port) for _ in range(3)] == [400] * 3  # without any
        chunks = in_chunks(text_of(LARGEST + 1), 1000)
        assert status(port, body=chunks, length=None) == 413
        assert status(port, body=in_chunks(text_of(1000), 100), length=None) == 200


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("gzip", gzip.compress(text_of(LARGEST)), 200),
        ("gzip", gzip.compress(text_of(LARGEST + 1)), 413),
        ("gzip", gzip.compress(text_of(30_000_000)), 413),
        ("gzip", gzip.compress(TEXTS)[:-9], 400),
        ("gzip", gzip.compress(TEXTS) + gzip.compress(b" "), 400),
        ("gzip", b"", 400),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXTS)), 415),
        ("br", TEXTS, 415),
        ("zstd", TEXTS, 415),
        ("deflate", zlib.compress(TEXTS), 200),
        ("deflate", raw_deflate(TEXTS), 200),
        ("deflate", zlib.compress(text_of(30_000_000)), 413),
        ("identity", TEXTS, 200),
    ],
    ids=[
        "as-large-as-allowed",
        "one-byte-more",
        "thirty-megabytes",
        "cut-off",
        "two-members",
        "empty",
        "twice",
        "br",
        "zstd",
        "deflate",
        "raw-deflate",
        "thirty-megabytes-deflated",
        "identity",
    ],
)
def test_compression_does_not_pass_the_limit(start, encoding, body, expected):
    with start() as server:
        received = status(server.rest_port, f"Content-Encoding: {encoding}", body=body)
    assert received == expected


def test_tiny_chunks_close_the_connection(start):
    with start() as server:
        for chunk in (b"1\r\na\r\n", b"14\r\n" + b"a" * 20 + b"\r\n"):
            head = post(None).encode()
            assert not answer(server.rest_port, head, *[chunk * 100] * 100)


def test_a_client_is_told_to_go_on_only_if_its_body_will_be_read(start):
    expect = "Expect: 100-continue"
    checks = [token_middleware("secret")]
    with start(middlewares=checks) as server:
        token = "Authorization: Bearer secret"
        for headers, length, expected in (
            ([expect], 10, b"401"),
            ([expect, token], LARGEST + 1, b"413"),
        ):
            with connect(server.rest_port) as connection:
                connection.sendall(post(length, *headers).encode())
                received = connection.recv(1000)
            assert received.split()[1] == expected
            assert b"Connection: close" in received
        with connect(server.rest_port) as connection:
            connection.sendall(post(len(TEXTS), expect, token).encode())
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(TEXTS)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_an_upgrade_is_not_made(start):
    with start() as server:
        upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: a"]
        request = post(len(TEXTS), *upgrade).encode() + TEXTS
        with connect(server.rest_port) as connection:
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [' + b"[]," * 10_000 + b"[]]}",
        b'{"instances": [' + b"1," * 10_000 + b"1]}",
        b'{"instances": [{' + b'"a":1,' * 10_000 + b'"a":1}]}',
    ],
)
def test_the_values_of_a_body_have_a_limit(start, body):
    with start() as server:
        assert status(server.rest_port, body=body) == 413


def test_one_address_gets_half_of_the_room_for_large_bodies(start):
    size = LARGEST * 9 // 10
    head, body = post(size).encode(), text_of(size)
    with (
        start() as server,
        many(server.rest_port, 3, head + body[:-1]) as slow,
    ):
        time.sleep(0.3)
        assert status(server.rest_port, body=text_of(LARGEST)) == 429
        assert predict(server.rest_port, ["a"], STRANGER) == 200
        assert predict(server.rest_port, ["a" * (LARGEST - 100)]) == 200
        for connection in slow:
            connection.sendall(body[-1:])
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert status(server.rest_port, body=text_of(LARGEST)) == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, {"instances": ["a"], "signature_name": "s" * 100_000}),
        (PREDICT, {"inputs": {"n" * 100_000: ["a"]}}),
        (PREDICT, {"inputs": {str(i): ["a"] for i in range(1000)}}),
        (PREDICT, {"instances": [{str(i): "a" for i in range(1000)}]}),
        ("/v1/models/" + "m" * 3000 + ":predict", {"instances": ["a"]}),
        ("/" + "p" * 3000, {}),
    ],
)
def test_messages_do_not_repeat_all_that_was_sent(start, path, body):
    with start() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
        assert response.status in (400, 404)
        assert len(error) < 700


def test_lines_of_a_kind_are_written_once_a_minute(monkeypatch):
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("simcse_tf.server.rare_lines.time", clock)
    rare = RareLines()
    written = []

    def log(text, *arguments):
        record = logging.LogRecord(
            "name", logging.WARNING, "", 0, text, arguments, None
        )
        if rare.filter(record):
            written.append(record.getMessage())

    for number in range(10):
        log("one from %s", number)
        log("another")
    now = 61.0
    log("one from %s", 10)
    assert written == [
        "one from 0",
        "another",
        "one from 10 (9 more since the last line)",
    ]


def test_the_descriptors_that_the_system_allows_are_used():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert raise_descriptor_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for descriptors in (64, 256, 1024, 20_000):
        assert 0 < 2 * share_of_a_port(descriptors) < descriptors


def test_an_ipv6_network_counts_as_one_address():
    assert address_of("2001:db8::1") == address_of("2001:db8::2:1")
    assert address_of("2001:db8::1") != address_of("2001:db8:0:1::1")
    assert address_of("::ffff:192.0.2.1") == address_of("192.0.2.1") == "192.0.2.1"
    assert address_of("fe80::1%eth0") == "fe80::/64"


@pytest.fixture(scope="module")
def rest_port(base_path):
    """The REST port of a server that runs in a process of its own."""
    port = free_port()
    with running_server(base_path, "--rest_api_port", str(port)):
        yield port


def mutated(draw: random.Random) -> bytes:
    """A sound body with some bytes replaced, removed, added, or repeated."""
    body = json.dumps(draw.choice(SOUND), ensure_ascii=draw.random() < 0.5).encode()
    for _ in range(draw.randint(1, 4)):
        start = draw.randint(0, len(body))
        end = min(len(body), start + draw.choice([0, 0, 1, 1, 2, 8]))
        new = draw.choice(
            [b"", body[start:end] * 2, draw.choice(PIECES), draw.randbytes(1)]
        )
        body = body[:start] + new + body[end:]
    return body


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.attack)])
def test_no_mutated_body_is_a_failure_of_the_server(rest_port, count):
    statuses = {}
    connection = http.client.HTTPConnection("127.0.0.1", rest_port, timeout=30)
    with contextlib.closing(connection):
        for seed in range(count):
            body = mutated(random.Random(seed))
            connection.request("POST", PREDICT, body)
            answer = connection.getresponse()
            text = answer.read()
            json.loads(text)
            assert answer.status < 500, (seed, body, text)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
    print(f"{count} mutated bodies: {statuses}")
    assert {200, 400} <= statuses.keys()


@pytest.fixture(scope="module")
def large_server(tmp_path_factory):
    """A server of real weights, in a process of its own that has done some work."""
    base_path = tmp_path_factory.mktemp("minilm") / "simcse"
    model = ["--model", MINILM, "--pooling", "avg"]
    export = [sys.executable, "-m", "simcse_tf.export", "--output", str(base_path)]
    subprocess.run([*export, *model], env=environment(), check=True)
    allow_descriptors()
    port = free_port()
    with running_server(base_path, "--rest_api_port", str(port)) as server:
        server.rest_port = port
        for texts in (["a"], [text_of(500).decode()] * 64, ["a"]):
            assert predict(port, texts) == 200
        yield server


def measure(name: str, server, attack: Callable[[], object]) -> None:
    """Prints what an attack does to memory and neighbours, and asserts the targets."""
    quiet = p95(server)
    done = threading.Event()

    def repeat():
        while not done.is_set():
            attack()

    stranger = threading.Thread(target=repeat)
    with Memory(server.process.pid) as memory:
        stranger.start()
        hurt = p95(server)
        done.set()
        stranger.join()
    report(name, server, memory, quiet, hurt)


def p95(server) -> float:
    return max(neighbours_p95(server.target, server.rest_port, SECONDS).values())


def report(name, server, memory, quiet, hurt, most_growth=0.1) -> None:
    # Twice, because a machine is not equally quiet all the time.
    quiet = max(quiet, p95(server))
    print(f"\n{name}: {memory}; p95 {quiet} ms, during the attack {hurt} ms")
    assert memory.growth < most_growth
    assert hurt < 2 * quiet + 10


def list_of(value: bytes, size: int) -> bytes:
    return b'{"instances": [%s]}' % b",".join([value] * (size // (len(value) + 1)))


BODY = 8 * 2**20 - 100
VALUES = BODY // 64 - 10


GZIP = ["Content-Encoding: gzip"]
NUMBERED = range(VALUES)
# Made when they are sent: they are 300 MB.
BODIES = {
    "gzip of 20 MB": (GZIP, lambda: gzip.compress(text_of(20_000_000))),
    "gzip of 100 MB": (GZIP, lambda: gzip.compress(text_of(100_000_000))),
    "gzip of 8 MiB": (GZIP, lambda: gzip.compress(text_of(BODY))),
    "text of 50 MB": ([], lambda: text_of(50_000_000)),
    "one word": ([], lambda: text_of(BODY)),
    "words": ([], lambda: text_of(BODY, b"a sentence of 25 letters, ")),
    "two bytes a letter": ([], lambda: text_of(BODY, "é".encode())),
    "a rare letter": ([], lambda: text_of(BODY, b"a" * 100_000 + "🎸".encode())),
    "escapes": ([], lambda: text_of(BODY, b"\\u00e9")),
    "20 MB of lists": ([], lambda: list_of(b"[]", 20_000_000)),
    "lists": ([], lambda: list_of(b"[]", VALUES * 3 // 2)),
    "objects": ([], lambda: list_of(b"{}", VALUES * 3 // 2)),
    "numbers": ([], lambda: list_of(b"1.5", VALUES * 4)),
    "texts": ([], lambda: list_of(b'"ab"', VALUES * 5)),
    "base64": ([], lambda: list_of(b'{"b64":"YQ=="}', VALUES // 2 * 15)),
    "keys": (
        [],
        lambda: b'{"inputs": {%s}}' % b",".join(b'"%d":1' % i for i in NUMBERED),
    ),
    "a long integer": ([], lambda: b'{"instances": [%s]}' % (b"1" * BODY)),
    "a long fraction": ([], lambda: b'{"instances": [1.%s]}' % (b"1" * BODY)),
    "a long name": (
        [],
        lambda: b'{"instances": ["a"], "signature_name": "%s"}' % (b"a" * BODY),
    ),
    "depth": ([], lambda: b'{"instances": %s' % (b"[" * BODY)),
    "chunks of a byte": (None, lambda: in_chunks(b"a" * 100_000, 1)),
    "chunks of 20 bytes": (None, lambda: in_chunks(b"a" * 1_000_000, 20)),
    "chunks of 64 bytes": (None, lambda: in_chunks(b"a" * 8_000_000, 64)),
}


@pytest.mark.attack
@pytest.mark.parametrize("kind", BODIES)
def test_no_body_hurts(large_server, kind):
    headers, make = BODIES[kind]
    body = make()
    length = None if headers is None else len(body)
    head = post(length, *(headers or []))
    measure(
        f"{kind}, {len(body)} bytes",
        large_server,
        lambda: send(large_server.rest_port, head, [body]),
    )


@pytest.mark.attack
@pytest.mark.parametrize("port", ["REST", "gRPC"])
def test_ten_thousand_idle_and_a_thousand_slow_connections(large_server, port):
    number = large_server.rest_port
    if port == "gRPC":
        number = int(large_server.target.rpartition(":")[2])
    head = post(1_000_000).encode()
    quiet = p95(large_server)
    with (
        Memory(large_server.process.pid) as memory,
        many(number, 10_000) as idle,
        many(number, 500, head[:30]) as slow_heads,
        many(number, 500, head) as slow_bodies,
    ):
        hurt = p95(large_server)
        held = [*idle, *slow_heads, *slow_bodies]
        kept = still_open(held)
    assert len(held) == 11_000
    report(f"11,000 at {port}, {kept} kept", large_server, memory, quiet, hurt, 0.15)
