"""Hostile input: every request gets the right code, and the server stays as it was.

`SIMCSE_FUZZ=20000` sends as many requests instead of the few of the test suite; with
`-s` the codes and the memory are printed.
"""

import asyncio
import collections
import json
import os
import random
import threading
import urllib.parse

import aiohttp
import grpc
import numpy as np
import pytest
import tensorflow as tf
import yarl
from google.protobuf import message
from support.servers import (
    CALL_SECONDS,
    DIM,
    MIXED_TEXTS,
    VERSION,
    free_port,
    predict_request,
    running_server,
)
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

REQUESTS = int(os.environ.get("SIMCSE_FUZZ", "1500"))
WARM_UP = 500  # after so many, memory has found its level
IN_FLIGHT = 32
GROWTH = 0.1  # the allocator's own swing with strings of 1 MB is 2 to 5%

PREDICT = "PredictionService/Predict"
MODEL_PATH = "/v1/models/simcse"
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]

# What may come of bytes that are a request by accident, or one with a bit changed.
PARSED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}


class Fuzzer:
    """Makes requests out of a seed and sends them.

    Each method whose name has a family's sends one request and returns what came
    back and the set of what may come back.
    """

    def __init__(self, seed, target, rest_port, channel, session):
        self.random = random.Random(seed)
        self.target = target
        self.rest = f"http://127.0.0.1:{rest_port}"
        self.ports = (int(target.rpartition(":")[2]), rest_port)
        self.channel = channel
        self.session = session
        self.huge = asyncio.Semaphore(1)
        self.families = [
            getattr(self, name)
            for name in sorted(dir(type(self)))
            if name.startswith(("grpc_", "rest_", "tcp_"))
        ]

    async def send(self, family):
        try:
            received, expected = await asyncio.wait_for(family(), CALL_SECONDS)
        except Exception as error:  # the others shall be sent all the same
            return family.__name__, repr(error), ()
        return family.__name__, received, expected

    def texts(self, most=8):
        return [self.bytes(200) for _ in range(self.random.randint(1, most))]

    def bytes(self, most):
        return self.random.randbytes(self.random.randint(0, most))

    async def call(self, request, method=PREDICT, timeout=CALL_SECONDS):
        if isinstance(request, message.Message):
            request = request.SerializeToString()
        call = self.channel.unary_unary(f"/tensorflow.serving.{method}")
        try:
            await call(request, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    async def grpc_right_request(self):
        return await self.call(predict_request(text=self.texts(64))), {"OK"}

    async def grpc_huge_string(self):
        size = self.random.choice([2**16, 2**18, 2**20])
        text = self.random.randbytes(1024) * (size // 1024)
        # One at a time: how many are in memory together would be left to chance.
        async with self.huge:
            return await self.call(predict_request(text=[text])), {"OK"}

    async def grpc_wrong_dtype(self):
        dtype = self.random.choice([0, 1, 3, 9, 10, 14, 19, 20, 21, 101, 107, 999, -1])
        proto = tensor_pb2.TensorProto(dtype=dtype, tensor_content=self.bytes(64))
        proto.tensor_shape.dim.add(size=self.random.randint(0, 9))
        proto.float_val.extend([1.0] * self.random.randint(0, 3))
        return await self.call(predict_request(text=proto)), {"INVALID_ARGUMENT"}

    async def grpc_wrong_rank(self):
        shape = self.random.choice([(), (1, 1), (2, 3), (1, 0), (1,) * 254, (0, 5)])
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        proto.string_val.extend([b"a"] * int(np.prod(shape)))
        return await self.call(predict_request(text=proto)), {"INVALID_ARGUMENT"}

    async def grpc_malformed_tensor(self):
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
        kind = self.random.randrange(3)
        sizes = [[-1], [-(2**63)], [2**62, 4], [10**9], [65]][self.random.randrange(5)]
        if kind == 0:
            sizes = [2]
            proto.tensor_content = b"\xff" * self.random.randint(1, 20)
        elif kind == 1:
            sizes = [3]
            proto.tensor_content = b"\x05\x05\x7f" + self.bytes(20)
        for size in sizes:
            proto.tensor_shape.dim.add(size=size)
        proto.string_val.append(b"a")
        return await self.call(predict_request(text=proto)), {"INVALID_ARGUMENT"}

    async def grpc_wrong_names(self):
        inputs = self.random.choice(
            [
                {},
                {"texts": ["a"]},
                {"text": ["a"], "lang": ["en"]},
                {"": ["a"]},
                {"text" * 1000: ["a"]},
                {f"input{i}": ["a"] for i in range(100)},
            ]
        )
        return await self.call(predict_request(**inputs)), {"INVALID_ARGUMENT"}

    async def grpc_wrong_spec(self):
        name = self.bytes(20).hex() + "x" * self.random.choice([0, 10_000])
        choices = [
            (predict_request(name=name + "y", text=["a"]), "NOT_FOUND"),
            (predict_request(version=VERSION + 1, text=["a"]), "NOT_FOUND"),
            (predict_request(version=-(2**63), text=["a"]), "NOT_FOUND"),
            (predict_request(name="", text=["a"]), "INVALID_ARGUMENT"),
            (predict_pb2.PredictRequest(), "INVALID_ARGUMENT"),
            (predict_request(name + "y", text=["a"]), "FAILED_PRECONDITION"),
            (predict_request(outputs=[name], text=["a"]), "INVALID_ARGUMENT"),
            (predict_request("read", path=[name[:40] + "y"]), "NOT_FOUND"),
        ]
        request, code = self.random.choice(choices)
        return await self.call(request), {code}

    async def grpc_wrong_batch(self):
        if self.random.random() < 0.5:
            size = self.random.choice([65, 100, 5000])
            request = predict_request(text=[b""] * size)
        else:
            a, b = self.random.sample(range(10), 2)
            a, b = ([b"x"] * a or np.array([], object), [b"x"] * b)
            request = predict_request(
                "similarity",
                text_a=tf.make_tensor_proto(a, tf.string),
                text_b=tf.make_tensor_proto(b or np.array([], object), tf.string),
            )
        return await self.call(request), {"INVALID_ARGUMENT"}

    async def grpc_random_bytes(self):
        return await self.raw(self.bytes(300))

    async def grpc_mutated_bytes(self):
        data = bytearray(predict_request(text=self.texts()).SerializeToString())
        for _ in range(self.random.randint(1, 4)):
            place = self.random.randrange(len(data))
            kind = self.random.randrange(3)
            if kind == 0:
                data[place] = self.random.randrange(256)
            elif kind == 1:
                data[place:place] = self.bytes(8)
            else:
                del data[place + 1 :]
        return await self.raw(bytes(data))

    async def raw(self, data):
        method, kind = self.random.choice(
            [
                (PREDICT, predict_pb2.PredictRequest),
                (
                    "PredictionService/GetModelMetadata",
                    get_model_metadata_pb2.GetModelMetadataRequest,
                ),
                (
                    "ModelService/GetModelStatus",
                    get_model_status_pb2.GetModelStatusRequest,
                ),
            ]
        )
        try:
            kind.FromString(data)
            expected = PARSED
        except message.DecodeError:
            expected = {"INTERNAL"}
        return await self.call(data, method), expected

    async def grpc_other_method(self):
        method = self.random.choice(
            ["PredictionService/Rank", "PredictionService/" + "x" * 500, "No/No"]
        )
        return await self.call(self.bytes(50), method), {"UNIMPLEMENTED"}

    async def grpc_short_deadline(self):
        request = predict_request(text=self.texts(64))
        code = await self.call(
            request, timeout=self.random.choice([1e-4, 1e-3, 1e-2, 5e-2])
        )
        return code, {"OK", "DEADLINE_EXCEEDED"}

    async def grpc_cancelled(self):
        method = self.channel.unary_unary(f"/tensorflow.serving.{PREDICT}")
        request = predict_request(text=self.texts(64)).SerializeToString()
        call = method(request, timeout=CALL_SECONDS)
        await asyncio.sleep(self.random.choice([0, 0.001, 0.01, 0.05]))
        call.cancel()
        return (await call.code()).name, {"OK", "CANCELLED"}

    async def post(self, body, path=MODEL_PATH + ":predict", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        url = yarl.URL(self.rest + path, encoded=True)
        async with self.session.post(url, data=body, headers=headers) as response:
            answer = json.loads(await response.read())
        if response.status != 200:
            assert answer.keys() == {"error"}
        return response.status

    async def rest_right_request(self):
        texts = [text.hex() for text in self.texts(64)]
        return await self.post({"instances": texts}), {200}

    async def rest_random_body(self):
        return await self.post(self.bytes(300)), {400}

    async def rest_broken_json(self):
        body = bytearray(
            b'{"signature_name": "serving_default", "instances": ["text"]}'
        )
        place = self.random.randrange(len(body))
        del body[place:]
        return await self.post(bytes(body)), {400}

    async def rest_wrong_values(self):
        wrong = self.random.choice(
            [
                None,
                True,
                1,
                1e308,
                10**400 if self.random.random() < 0.2 else -1,
                [1],
                [[]],
                [None],
                [["a"], "b"],
                [{"b64": "!"}],
                [{"b64": None}],
                [{"texts": "a"}],
                {"text": "a"},
                {"text": [["a"]]},
                ["a"] * 65,
                [],
            ]
        )
        return await self.post({"instances": wrong}), {400}

    async def rest_deep_nesting(self):
        depth = self.random.choice([10, 900, 100_000])
        body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
        # One address gets some megabytes for what its bodies hold.
        return await self.post(body), {400, 429} if depth > 1000 else {400}

    async def rest_wrong_address(self):
        noise = urllib.parse.quote(self.bytes(20), safe="")
        path, status = self.random.choice(
            [
                (f"/v1/models/x{noise}:predict", 404),
                (f"{MODEL_PATH}/versions/{VERSION + 1}:predict", 404),
                (f"{MODEL_PATH}/versions/{10**30}:predict", 400),
                (f"{MODEL_PATH}/versions/x{noise}:predict", 400),
                (f"{MODEL_PATH}:regress", 400),
                (f"{MODEL_PATH}:x{noise}", 400),
                (f"/v2/{noise}", 404),
                (f"/{noise}", 404),
            ]
        )
        return await self.post({"instances": ["a"]}, path), {status}

    async def rest_wrong_encoding(self):
        headers = {"Content-Encoding": self.random.choice(["gzip", "deflate"])}
        return await self.post(self.random.randbytes(99), **headers), {400}

    async def tcp_garbage(self):
        port = self.random.choice(self.ports)
        return await self.talk(port, self.bytes(2000), read=True), {"closed"}

    async def tcp_half_request(self):
        head = f"POST {MODEL_PATH}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99"
        half = (head + '\r\n\r\n{"instances": ["a"').encode()
        sent = half[: self.random.randrange(1, len(half))]
        return await self.talk(self.ports[1], sent, read=False), {"closed"}

    async def tcp_half_frames(self):
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        headers = b"\x00\x00\x10\x01\x04\x00\x00\x00\x01" + self.bytes(16)
        data = b"\x00\xff\xff\x00\x00\x00\x00\x00\x01" + self.bytes(100)
        sent = preface + settings + headers + data
        sent = sent[: self.random.randrange(1, len(sent))]
        read = self.random.random() < 0.5
        return await self.talk(self.ports[0], sent, read=read), {"closed"}

    async def talk(self, port, sent, read):
        """Sends bytes, and leaves, perhaps after the server has closed, too."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(sent)
            await writer.drain()
            if read:
                writer.write_eof()
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
        return "closed"


def resident_megabytes(pid):
    with open(f"/proc/{pid}/status") as file:
        [line] = [line for line in file if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def attack(target, rest_port, requests, seed):
    """Sends requests of all families in turn; returns (family, received, expected)."""
    slots = asyncio.Semaphore(IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
    async with (
        grpc.aio.insecure_channel(target, OPTIONS) as channel,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        fuzzer = Fuzzer(seed, target, rest_port, channel, session)

        async def one(family):
            async with slots:
                return await fuzzer.send(family)

        families = [fuzzer.families[i % len(fuzzer.families)] for i in range(requests)]
        return await asyncio.gather(*(one(family) for family in families))


async def ask(target, texts):
    async with grpc.aio.insecure_channel(target, OPTIONS) as channel:
        call = channel.unary_unary(f"/tensorflow.serving.{PREDICT}")
        request = predict_request(text=texts).SerializeToString()
        answer = await call(request, timeout=CALL_SECONDS)
    response = predict_pb2.PredictResponse.FromString(answer)
    return tf.make_ndarray(response.outputs["embedding"])


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.slow
def test_hostile_input_is_answered_and_leaves_no_trace(base_path):
    rest_port = free_port()
    with running_server(base_path, "--rest_api_port", str(rest_port)) as server:
        errors = []
        reader = threading.Thread(
            target=lambda: errors.extend(server.process.stderr), daemon=True
        )
        reader.start()
        outcomes = asyncio.run(attack(server.target, rest_port, WARM_UP, seed=1))
        before = resident_megabytes(server.process.pid)
        rest = max(REQUESTS - WARM_UP, WARM_UP)
        outcomes += asyncio.run(attack(server.target, rest_port, rest, seed=2))
        after = resident_megabytes(server.process.pid)
        embeddings = asyncio.run(ask(server.target, MIXED_TEXTS))
        server.process.terminate()
        assert server.process.wait(CALL_SECONDS) == 0
        reader.join(CALL_SECONDS)

    counts = collections.Counter((family, code) for family, code, _ in outcomes)
    print(f"\n{len(outcomes)} requests, {before:.0f} MB before, {after:.0f} MB after")
    for (family, code), count in sorted(counts.items(), key=str):
        print(f"{family:24} {code!s:20} {count}")
    wrong = [it for it in outcomes if it[1] not in it[2]]
    assert not wrong, (len(wrong), wrong[:10])
    assert after < before * (1 + GROWTH)
    tracebacks = [line for line in errors if "Traceback" in line]
    assert not tracebacks, "".join(errors)[:2000]
    expected = tf.saved_model.load(str(base_path / str(VERSION)))
    np.testing.assert_array_equal(
        embeddings,
        expected.signatures["serving_default"](text=tf.constant(MIXED_TEXTS))[
            "embedding"
        ],
    )
    assert embeddings.shape == (len(MIXED_TEXTS), DIM)
