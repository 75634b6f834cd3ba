"""Strangers at the gRPC port: large messages, bursts, slow and silent, wrong.

The long part is marked `attack`: it prints what the attack did to memory and to others.
"""

import asyncio
import collections
import contextlib
import logging
import multiprocessing
import random
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.protobuf import message as protobuf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import http2
from support.attacks import Memory, connect, neighbours_p95
from support.servers import (
    VERSION,
    free_port,
    predict_request,
    running_server,
    server_in_thread,
)
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from simcse_tf.client import AsyncClient, Client, Retry
from simcse_tf.server import admission
from simcse_tf.server.admission import Full, Room, network_of
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.servable import Servable

PREDICT = "/tensorflow.serving.PredictionService/Predict"
TOKEN = "a-secret"
AUTHORIZED = (("authorization", f"Bearer {TOKEN}"),)
SECONDS = 30
ANY_SIZE = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
MB = 1_000_000
LARGEST = 8 * 2**20


@pytest.fixture(scope="module")
def guarded(base_path, tmp_path_factory):
    """A server with a token, in a process of its own."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    port = free_port()
    with running_server(
        base_path, "--token_file", str(token), "--rest_api_port", str(port)
    ) as server:
        with Client(server.target, token=TOKEN) as client:
            client.encode(["a"] * 64)
        server.rest_port = port
        yield server


@pytest.fixture
def here(base_path):
    """A server without a token, in this process."""
    with ThreadPoolExecutor(1) as executor:
        path = base_path / str(VERSION)
        servable = Servable(VERSION, path, BatchingParameters(), executor)
        with server_in_thread(servable) as address:
            yield address


def port_of(server):
    return int(server.target.rpartition(":")[2])


def ask(target, body, metadata=None, compression=None, method=PREDICT):
    """Sends bytes over a new connection; the code and the details."""
    with grpc.insecure_channel(target, ANY_SIZE) as channel:
        try:
            channel.unary_unary(method)(
                body, timeout=SECONDS, metadata=metadata, compression=compression
            )
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


@contextlib.contextmanager
def stranger(server, *sent):
    """A connection from another address than the tests'."""
    connection = connect(port_of(server))
    with contextlib.closing(connection):
        connection.sendall(http2.HELLO + b"".join(sent))
        yield connection


def answers(server):
    with Client(server.target, token=TOKEN, retry=Retry(attempts=1)) as client:
        return client.encode(["a"]).shape == (1, 8)


def received(connection, wanted, seconds=SECONDS):
    """Reads until `wanted` has come, or the server says no more."""
    until = time.monotonic() + seconds
    data = b""
    with contextlib.suppress(OSError):
        while wanted not in data and (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            if not (chunk := connection.recv(65536)):
                break
            data += chunk
    return data


@pytest.mark.parametrize(
    "headers",
    [
        http2.call(1, b"/a.b/\xff\xfe", end=True),
        http2.call(1, PREDICT.encode(), (b"authorization", b"\xff\xfe"), end=True),
        http2.call(1, PREDICT.encode(), (b"\xff", b"a"), end=True),
        http2.call(1, b"", end=True),
    ],
    ids=["path", "token", "name", "no path"],
)
def test_headers_that_are_not_utf_8_end_their_request_only(guarded, headers):
    with stranger(guarded, headers) as connection:
        received(connection, b"grpc-status", 2)
        assert answers(guarded)
    assert guarded.process.poll() is None


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
@pytest.mark.parametrize("metadata", [None, AUTHORIZED], ids=["stranger", "client"])
def test_a_message_that_is_too_large_is_never_in_memory(guarded, metadata, compression):
    body = b"\0" * (100 * MB)
    with Memory(guarded.process.pid) as memory:
        code, details = ask(guarded.target, body, metadata, compression)
    print(f"100 MB, {'with' if metadata else 'without'} the token: {memory}")
    if metadata:
        assert code == "RESOURCE_EXHAUSTED"
        assert "larger than max" in details
    else:
        assert code == "UNAUTHENTICATED"
    assert memory.growth < 0.1
    assert answers(guarded)


def test_headers_are_bounded(guarded):
    with Memory(guarded.process.pid) as memory:
        code, _ = ask(guarded.target, b"", (("a", "x" * MB), *AUTHORIZED))
    assert code in ("RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")
    assert memory.growth < 0.1
    assert answers(guarded)


def test_health_streams_are_few_and_checks_are_free(guarded):
    with grpc.insecure_channel(guarded.target, ANY_SIZE) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        streams = [stub.Watch(request, timeout=SECONDS) for _ in range(40)]
        codes = collections.Counter()
        for stream in streams:
            try:
                codes[next(stream).status] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
        most = admission.HEALTH_STREAMS[0]
        assert codes == {
            health_pb2.HealthCheckResponse.SERVING: most,
            "RESOURCE_EXHAUSTED": 40 - most,
        }
        assert stub.Check(request, timeout=SECONDS).status == 1
        for stream in streams:
            stream.cancel()


def test_a_message_that_does_not_come_is_not_waited_for(here, monkeypatch):
    monkeypatch.setattr(admission, "ARRIVAL_SECONDS", 0.2)
    path = PREDICT.encode()
    for sent in (b"", http2.message(1, b"x" * 100, size=MB)):
        with stranger(here, http2.call(1, path), sent) as connection:
            assert b"did not arrive within" in received(connection, b"within")
    with stranger(here, http2.call(1, path, end=True)) as connection:
        assert b"received none" in received(connection, b"none")


def test_who_sends_slowly_waits_for_himself(here):
    slow = [
        http2.call(stream, PREDICT.encode()) + http2.message(stream, b"", size=MB)
        for stream in range(1, 200, 2)
    ]
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(stranger(here, *slow))
        time.sleep(0.3)
        with Client(here.target, retry=Retry(attempts=1)) as client:
            start = time.monotonic()
            client.encode(["a"])
            assert time.monotonic() - start < 1


def test_one_address_has_a_bounded_number_of_open_requests(here):
    streams = [http2.call(stream, PREDICT.encode()) for stream in range(1, 255, 2)]
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(stranger(here, *streams))
        time.sleep(0.5)
        with stranger(here, *streams) as last:
            assert b"open requests of one address" in received(last, b"one address")
        with Client(here.target, retry=Retry(attempts=1)) as client:
            client.encode(["a"])


def test_room_is_given_back_and_no_address_has_all_of_it():
    room = Room("bytes", (2, 3))
    with room.taken("a", 2):
        with (
            pytest.raises(Full, match="at most 2 bytes of one address"),
            room.taken("a"),
        ):
            pass
        with (
            room.taken("b"),
            pytest.raises(Full, match="3 bytes in all"),
            room.taken("c"),
        ):
            pass
    with room.taken("c", 2):
        pass
    assert not room._used
    assert not room._total


def test_clients_are_told_apart_by_their_network():
    assert network_of("ipv4:192.0.2.1:50000") == "192.0.2.1"
    assert network_of("ipv6:%5B2001:db8::1%5D:1") == network_of(
        "ipv6:%5B2001:db8::ffff%5D:2"
    )
    assert network_of("unix:/run/a") == "unix:/run/a"


@pytest.mark.filterwarnings("error")
def test_a_burst_is_answered_to_the_last(guarded):
    texts = [str(i) for i in range(2000)]
    with Client(guarded.target, token=TOKEN, batch_size=1, concurrency=2000) as client:
        one_by_one = client.encode(texts)
    with Client(guarded.target, token=TOKEN) as client:
        expected = client.encode(texts)

    async def at_once():
        async with AsyncClient(guarded.target, token=TOKEN) as client:
            return await asyncio.gather(*(client.encode([text]) for text in texts))

    np.testing.assert_allclose(one_by_one, expected, atol=1e-6)
    rows = np.concatenate(asyncio.run(at_once()))
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def hostile(random_):
    """A request out of every part that a request can have; a sound one at times."""
    if random_.random() < 0.1:
        return predict_request(text=[random_.randbytes(8)]).SerializeToString()
    request = predict_pb2.PredictRequest()
    if random_.random() < 0.9:
        request.model_spec.name = random_.choice(["simcse", "simcse", "", "x" * 1000])
        request.model_spec.signature_name = random_.choice(
            ["", "similarity", "half", "lengths", "__saved_model_init_op", "\0"]
        )
    if random_.random() < 0.2:
        request.model_spec.version.value = random_.choice([3, 0, -1, 2**63 - 1])
    if random_.random() < 0.2:
        request.model_spec.version_label = random_.choice(["stable", "", "\0"])
    for _ in range(random_.choice([0, 1, 1, 1, 2, 500])):
        name = random_.choice(
            ["text", "text", "text_a", "x", "", str(random_.random())]
        )
        tensor = request.inputs[name]
        tensor.dtype = random_.choice([7, 7, 7, 1, 0, 14, 20, 21, 107, 2**31 - 1])
        for _ in range(random_.choice([0, 1, 1, 1, 2, 300])):
            size = random_.choice([0, 1, 1, 2, 64, -1, 2**62, -(2**63), 2**63 - 1])
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_shape.unknown_rank = random_.random() < 0.1
        tensor.string_val.extend([b"a"] * random_.choice([0, 1, 1, 2, 65]))
        if random_.random() < 0.2:
            tensor.tensor_content = random_.randbytes(random_.randint(0, 30))
        if random_.random() < 0.2:
            tensor.float_val.extend([float("nan")] * random_.randint(0, 3))
    if random_.random() < 0.2:
        request.output_filter.extend(["embedding"] * random_.randint(1, 3))
    data = bytearray(request.SerializeToString())
    for _ in range(random_.choice([0, 0, 1, 3]) if data else 0):
        data[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.attack)])
def test_no_mutated_request_is_a_failure_of_the_server(here, caplog, count):
    codes = collections.Counter()
    wrong = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
    with (
        caplog.at_level(logging.WARNING),
        grpc.insecure_channel(here.target, ANY_SIZE) as channel,
    ):
        predict = channel.unary_unary(PREDICT)
        for seed in range(count):
            data = hostile(random.Random(seed))
            try:
                predict_pb2.PredictRequest.FromString(data)
                expected = {"OK", *wrong}
            except protobuf.DecodeError:
                expected = {"INTERNAL"}  # as TF Serving says
            try:
                predict(data, timeout=SECONDS)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            assert code in expected, (seed, code)
            codes[code] += 1
    print(f"{count} mutated requests: {dict(codes)}")
    assert {"OK", "INVALID_ARGUMENT"} <= codes.keys()
    assert not caplog.records


@pytest.mark.parametrize("deadline", [b"0n", b"1n", b"99999999H", b"-5S", b"x"])
def test_any_deadline_is_taken(here, deadline):
    request = predict_request(text=["a"]).SerializeToString()
    sent = http2.call(1, PREDICT.encode(), (b"grpc-timeout", deadline))
    with stranger(here, sent, http2.message(1, request, end=True)) as connection:
        received(connection, b"grpc-status", 2)
    with Client(here.target) as client:
        client.encode(["a"])


def _burst(target, count):
    with Client(target, token=TOKEN, batch_size=1, concurrency=count) as client:
        return client.encode([str(i) for i in range(count)]).shape


@pytest.mark.attack
def test_bursts_of_many_processes_are_answered_to_the_last(guarded):
    context = multiprocessing.get_context("spawn")
    start = time.monotonic()
    with context.Pool(8) as pool:
        shapes = pool.starmap(_burst, [(guarded.target, 500)] * 8)
    print(f"8 processes with 500 requests each: {time.monotonic() - start:.1f} s")
    assert shapes == [(500, 8)] * 8


def _many_at_once(target, body, metadata, count, seconds):
    async def main():
        codes = collections.Counter()
        until = time.monotonic() + seconds

        async def one(number):
            options = [*ANY_SIZE, ("grpc.channel_id", number % 8)]
            async with grpc.aio.insecure_channel(target, options=options) as channel:
                while time.monotonic() < until:
                    try:
                        await channel.unary_unary(PREDICT)(
                            body, timeout=SECONDS, metadata=metadata
                        )
                        codes["OK"] += 1
                    except grpc.aio.AioRpcError as error:
                        codes[error.code().name] += 1
                        await asyncio.sleep(0.05)

        await asyncio.gather(*(one(number) for number in range(count)))
        return codes

    return asyncio.run(main())


def _texts(count, size):
    return predict_request(text=[b"x" * size] * count).SerializeToString()


def _inputs(count):
    request = predict_request()
    for number in range(count):
        request.inputs[str(number)].dtype = types_pb2.DT_STRING
    return request.SerializeToString()


def _no_texts(count):
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b""] * count)
    tensor.tensor_shape.dim.add(size=count)
    return predict_request(text=tensor).SerializeToString()


@pytest.mark.attack
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("500 MB", lambda: b"\0" * (500 * MB)),
        ("64 texts of 125 kB", lambda: _texts(64, 125_000)),
        ("a text of 8 MB", lambda: _texts(1, 8 * MB)),
        ("4 million empty texts", lambda: _no_texts(4 * MB)),
        ("600,000 inputs", lambda: _inputs(600_000)),
    ],
)
def test_large_messages_are_answered_in_bounded_memory(open_server, name, body):
    body = body()
    alone = neighbours_p95(open_server.target, open_server.rest_port, 4)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool, Memory(open_server.process.pid) as memory:
        arguments = (open_server.target, body, None, 8, 6)
        attack = pool.apply_async(_many_at_once, arguments)
        time.sleep(1)
        during = neighbours_p95(open_server.target, open_server.rest_port, 4)
        codes = attack.get(120)
    print(f"{name}: p95 {alone} alone, {during} ms meanwhile; {memory}; {dict(codes)}")
    assert memory.growth < 0.2
    assert answers(open_server)


@pytest.fixture(scope="module")
def open_server(base_path):
    """A server without a token, in a process of its own."""
    port = free_port()
    with running_server(base_path, "--rest_api_port", str(port)) as server:
        server.rest_port = port
        with Client(server.target) as client:
            client.encode(["a"] * 64)
        yield server
