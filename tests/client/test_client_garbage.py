"""Servers that answer nonsense: each ends the client in one line, and soon."""

import contextlib
import random
import socket
import struct
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.http2 import SETTINGS, fields, frame
from support.servers import CALL_SECONDS, assert_one_line_mistake, run_here
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from simcse_tf.client import Client, Retry, ServerError
from simcse_tf.client.__main__ import main
from simcse_tf.core.errors import UserError

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MANY_DIMS = [1] * 100


@contextlib.contextmanager
def answering(answer):
    """A gRPC server that gives every method's caller the same bytes."""

    class Everything(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: answer(context)
            )

    server = grpc.server(futures.ThreadPoolExecutor(8), [Everything()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(CALL_SECONDS)


def tensor(array=None, dims=None, **fields):
    if array is not None:
        proto = tf.make_tensor_proto(np.asarray(array))
    else:
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)
    if dims is not None:
        del proto.tensor_shape.dim[:]
        for size in dims:
            proto.tensor_shape.dim.add(size=size)
    return proto


def response(proto, name="embedding"):
    answer = predict_pb2.PredictResponse()
    answer.outputs[name].CopyFrom(proto)
    return answer.SerializeToString()


def metadata(packed):
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.metadata["signature_def"].value = packed
    return answer.SerializeToString()


two = np.float32([[1, 0], [0, 1]])
ANSWERS = {
    "no bytes": b"",
    "other bytes": b"\xff" * 50,
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "no output": predict_pb2.PredictResponse().SerializeToString(),
    "another output": response(tensor(two), "\x1b[2J" + "x" * 10**6),
    "float64": response(tensor(two.astype(np.float64))),
    "integers": response(tensor(two.astype(np.int64))),
    "strings": response(tensor([[b"a"], [b"b"]])),
    "unknown dtype": response(tensor(two, dtype=99)),
    "too few rows": response(tensor(two[:1])),
    "too many rows": response(tensor(np.ones((3, 2), np.float32))),
    "no rows": response(tensor(two[:0])),
    "one dimension": response(tensor(two[:, 0])),
    "three dimensions": response(tensor(two[:, :, None])),
    "no columns": response(tensor(two[:, :0])),
    "a scalar": response(tensor(np.float32(1))),
    "NaN": response(tensor(two * np.nan)),
    "infinity": response(tensor(np.float32([[np.inf, 0], [0, 1]]))),
    "a negative size": response(tensor(two, dims=[2, -1])),
    "two negative sizes": response(tensor(two, dims=[-2, -2])),
    "huge sizes": response(tensor(dims=[2, 2**62])),
    "huger sizes": response(tensor(dims=[2**62, 2**62])),
    "many dimensions": response(tensor(two[0, :1], dims=MANY_DIMS)),
    "values missing": response(tensor(dims=[2, 2], float_val=[1.0])),
    "half a value": response(tensor(dims=[2, 1], tensor_content=b"1234567")),
    "int8 past its range": response(
        tensor(dims=[2, 1], dtype=types_pb2.DT_INT8, int_val=[1000, 1])
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_makes_no_sense_is_one_line(answer, capsys):
    with answering(lambda context: answer) as target:
        done = run_here(main, capsys, "--target", target, "encode", "a", "b")
    assert_one_line_mistake(done)
    assert "server" in done.stderr or "dtype" in done.stderr
    assert len(done.stderr) < 2000
    assert done.stderr.strip().isprintable()


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff", metadata(b"\xff"), metadata(b"")],
    ids=["nothing", "other bytes", "broken signatures", "no signatures"],
)
def test_metadata_that_make_no_sense_are_one_line(answer, capsys, tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    files = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out.npy")
    with answering(lambda context: answer) as target:
        done = run_here(main, capsys, "--target", target, "encode", *files)
    assert_one_line_mistake(done)
    assert [it.name for it in tmp_path.iterdir()] == ["in.txt"]


def test_rows_of_another_width_than_the_metadata_say_are_refused(capsys, tmp_path):
    def answer(context):
        return widths.pop()

    described = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    info = signatures.signature_def["serving_default"].outputs["embedding"]
    info.dtype = types_pb2.DT_FLOAT
    for size in (-1, 4):
        info.tensor_shape.dim.add(size=size)
    described.metadata["signature_def"].Pack(signatures)
    one = response(tensor(np.ones((1, 1), np.float32)))
    widths = [one, described.SerializeToString()]
    (tmp_path / "in.txt").write_text("a\n")
    files = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out.npy")
    with answering(answer) as target:
        done = run_here(main, capsys, "--target", target, "encode", *files)
    assert done.returncode == 2
    assert "expected float32 in 4 columns, received float32 in 1" in done.stderr
    assert [it.name for it in tmp_path.iterdir()] == ["in.txt"]


def test_rows_of_two_widths_in_one_call_are_refused():
    widths = [1, 2]

    def answer(context):
        return response(tensor(np.ones((1, widths.pop()), np.float32)))

    with (
        answering(answer) as target,
        Client(target, batch_size=1, concurrency=1) as client,
        pytest.raises(UserError, match="rows of shape"),
    ):
        client.encode(["a", "b"])


@pytest.mark.parametrize("details", ["x" * 7000, "\x1b[31mred\x07", "\ud800", "ä\n\n"])
def test_what_a_server_says_cannot_harm_a_terminal(details, capsys):
    def answer(context):
        context.abort(grpc.StatusCode.INTERNAL, details)

    with answering(answer) as target:
        done = run_here(main, capsys, "--target", target, "encode", "a")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 2000
    assert done.stderr.strip().isprintable()


def test_a_request_that_is_too_large_is_not_sent_again():
    calls = []

    def answer(context):
        calls.append(1)
        context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SERVER: Received message larger than max (9 vs. 8)",
        )

    with (
        answering(answer) as target,
        Client(target) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(["a"])
    assert (len(calls), caught.value.retryable) == (1, False)


OK = (b":status", b"200")
GRPC = (b"content-type", b"application/grpc")
MEGABYTE = b"".join(
    [
        frame(1, 0, 1, b"\x00\x03big\x7f" + b"\x81\xfe\x3f" + b"x" * 10_000),
        *(frame(9, 0, 1, b"x" * 16_000) for _ in range(60)),
        frame(9, 5, 1, b"x"),
    ]
)
BYTES = {
    "nothing, and leaves": b"",
    "HTML": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno",
    "an old SSH": b"SSH-2.0-OpenSSH_9.0\r\n",
    "other bytes": bytes(range(256)) * 20,
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "settings, and leaves": SETTINGS,
    "goodbye": SETTINGS + frame(7, 0, 0, struct.pack(">II", 0, 11) + b"\xff\x1b[2J"),
    "reset": SETTINGS + frame(3, 0, 1, struct.pack(">I", 2)),
    "another content type": SETTINGS
    + frame(1, 4, 1, fields(OK, (b"content-type", b"text/html")))
    + frame(0, 1, 1, b"<html>"),
    "404": SETTINGS + frame(1, 5, 1, fields((b":status", b"404"))),
    "no status": SETTINGS + frame(1, 5, 1, fields(OK, GRPC)),
    "a status that is no number": SETTINGS
    + frame(1, 5, 1, fields(OK, GRPC, (b"grpc-status", b"oops"))),
    "a status that is not known": SETTINGS
    + frame(1, 5, 1, fields(OK, GRPC, (b"grpc-status", b"99"))),
    "OK without a message": SETTINGS
    + frame(1, 5, 1, fields(OK, GRPC, (b"grpc-status", b"0"))),
    "details that are not UTF-8": SETTINGS
    + frame(
        1, 5, 1, fields(OK, GRPC, (b"grpc-status", b"13"), (b"grpc-message", b"%ff%1b"))
    ),
    "half a message": SETTINGS
    + frame(1, 4, 1, fields(OK, GRPC))
    + frame(0, 1, 1, b"\x00\x00\x00\x01\x00abc"),
    "an unknown compression": SETTINGS
    + frame(1, 4, 1, fields(OK, GRPC, (b"grpc-encoding", b"zip")))
    + frame(0, 0, 1, b"\x01\x00\x00\x00\x03abc"),
    "a megabyte of headers": SETTINGS + MEGABYTE,
}


@contextlib.contextmanager
def speaking(sent, stays=False):
    """A server that sends the same bytes to all, and leaves."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        contextlib.ExitStack() as held,
    ):

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client = held.enter_context(listener.accept()[0])
                    client.settimeout(CALL_SECONDS)
                    with contextlib.suppress(OSError):
                        client.recv(24)
                        client.sendall(SETTINGS if sent.startswith(SETTINGS) else b"")
                        if sent:
                            client.recv(4096)
                        client.sendall(sent.removeprefix(SETTINGS))
                        if not stays:
                            client.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(CALL_SECONDS)


@pytest.mark.parametrize("sent", BYTES.values(), ids=BYTES)
def test_bytes_that_are_no_answer_are_one_line(sent, capsys):
    flags = ("--timeout", "2", "encode", "a")
    with speaking(sent) as target:
        done = run_here(main, capsys, "--target", target, *flags)
    assert_one_line_mistake(done, target)
    assert len(done.stderr) < 3000
    assert done.stderr.strip().isprintable()


def test_a_server_that_never_answers_costs_the_timeout(capsys):
    flags = ("--timeout", "0.5", "encode", "a")
    with speaking(SETTINGS, stays=True) as target:
        done = run_here(main, capsys, "--target", target, *flags)
    assert_one_line_mistake(done, target)


def test_answers_with_wrong_bytes_are_right_or_refused():
    chance = random.Random(0)
    right = response(tensor(two))
    answers = []
    for _ in range(300):
        data = bytearray(right)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(data))
            kind = chance.randrange(3)
            if kind == 0:
                data[place] = chance.randrange(256)
            elif kind == 1:
                data[place:place] = chance.randbytes(4)
            else:
                del data[place]
        answers.append(bytes(data))
    remaining = iter(answers)
    with (
        answering(lambda context: next(remaining)) as target,
        Client(target, retry=Retry(attempts=1)) as client,
    ):
        for _ in answers:
            with contextlib.suppress(UserError):
                embeddings = client.encode(["a", "b"])
                assert embeddings.shape[0] == 2
                assert embeddings.ndim == 2
                assert np.isfinite(embeddings).all()
