"""What the tests of serving share: a small model, and servers to ask."""

import asyncio
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

import simcse_tf
from simcse_tf.core import cli
from support.forked import start_command
from support.ports import free_port

REPOSITORY = Path(simcse_tf.__file__).parents[1]
DIM = 8
VERSION = 3
MIXED_TEXTS = [
    b"A man is playing a guitar.",
    b"",
    "naïve façade 🎸🎉".encode(),
    b"x" * 10_000,
    b"\xff\xfe not UTF-8 \x80",
    b"ends in NUL\x00\x00",
    b"line\nbreak\tand tab",
]
# That a loaded machine may take.
START_SECONDS = 150
CALL_SECONDS = 30


class Embedder(tf.Module):
    """Embeddings out of hash buckets: exact and different for every text."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def encode(self, text):
        return {"embedding": self._embed(text)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text_a"),
            tf.TensorSpec([None], tf.string, name="text_b"),
        ]
    )
    def similarity(self, text_a, text_b):
        a, b = (tf.cast(self._embed(it), tf.float64) for it in (text_a, text_b))
        cosine = tf.reduce_sum(a * b, axis=-1)
        return {"cosine_similarity": tf.cast(cosine, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def ready(self, text):
        return {"length": tf.norm(self._embed(text), axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def lengths(self, text):
        characters = tf.strings.length(text, unit="UTF8_CHAR")
        return {"bytes": tf.strings.length(text), "characters": characters}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="path")])
    def read(self, path):
        return {"contents": tf.map_fn(tf.io.read_file, path)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="seconds")])
    def busy(self, seconds):
        start = tf.timestamp()
        longest = tf.reduce_max(seconds)
        [passed] = tf.while_loop(
            lambda passed: passed < longest,
            lambda passed: [tf.timestamp() - start],
            [tf.zeros([], tf.float64)],
        )
        return {"passed": tf.fill(tf.shape(seconds), passed)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def half(self, x):
        return {"y": x / 2}

    def _embed(self, text):
        buckets = [
            tf.strings.to_hash_bucket_fast(tf.strings.join([text, f"#{i}"]), 1000)
            for i in range(DIM)
        ]
        # In float64, because the last bit depends on a row's place in the batch.
        values = tf.cast(tf.stack(buckets, axis=-1), tf.float64) + 1.0
        norms = tf.sqrt(tf.reduce_sum(values**2, axis=-1, keepdims=True))
        return tf.cast(values / norms, tf.float32)


def export(base_path: Path, version: int = VERSION) -> Path:
    """Writes the test model and returns its version directory."""
    return Path(shutil.copytree(_exported().name, base_path / str(version)))


@functools.cache
def _exported() -> tempfile.TemporaryDirectory:
    """Traced once, for all that is exported in this process."""
    module = Embedder()
    directory = tempfile.TemporaryDirectory()
    signatures = {
        "serving_default": module.encode,
        "similarity": module.similarity,
        "ready": module.ready,
        "lengths": module.lengths,
        "read": module.read,
        "busy": module.busy,
        "half": module.half,
    }
    tf.saved_model.save(module, directory.name, signatures=signatures)
    return directory


def environment(path: Path | None = None) -> dict[str, str]:
    """For our processes: this repository's package, no TF Serving but `path`."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PATH": str(path) if path else "",
    }


@contextlib.contextmanager
def running_server(
    models: Path, *flags: str, **environment: str
) -> Iterator[SimpleNamespace]:
    """Starts `simcse_tf.serve` on a free port; yields its process and address.

    `models` is a base directory, or a file that names one.
    """
    source = "--model_config_file" if models.is_file() else "--model_base_path"
    process = start_command(
        *("simcse_tf.serve", "--port", "0", source, models, *flags),
        cwd=os.getcwd(),
        pipes=True,
        PATH="",
        **environment,
    )
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        announcement = process.stdout.readline().strip()
        watchdog.cancel()
        assert announcement, process.stderr.read()
        target = announcement.rpartition(" at ")[2]
        yield SimpleNamespace(process=process, announcement=announcement, target=target)
    finally:
        watchdog.cancel()
        process.close()


@contextlib.contextmanager
def open_stubs(target: str) -> Iterator[SimpleNamespace]:
    """Connects to a server; yields the channel and TF Serving's own stubs."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_http_proxy", 0),
    ]
    with grpc.insecure_channel(target, options) as channel:
        yield SimpleNamespace(
            channel=channel,
            predictions=prediction_service_pb2_grpc.PredictionServiceStub(channel),
            models=model_service_pb2_grpc.ModelServiceStub(channel),
        )


@contextlib.contextmanager
def server_in_thread(
    servable, metrics=None, token=None, log_requests=False, **rest_options
) -> Iterator:
    """Serves `servable` over gRPC and REST in this process; yields the addresses."""
    from simcse_tf.server import grpc_service, rest
    from simcse_tf.server.catalog import Catalog, ServedModel

    model = ServedModel("simcse")
    model.mark_loading(servable.version)
    model.publish(servable)
    catalog = Catalog(model)
    address = SimpleNamespace(target="", rest_port=free_port())
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve():
        server = grpc_service.make_server(
            catalog, metrics, token=token, log_requests=log_requests
        )
        address.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        stop_rest = await rest.start(
            catalog, "127.0.0.1", address.rest_port, metrics, **rest_options
        )
        await server.start()
        started.set()
        await stopping.wait()
        await asyncio.gather(server.stop(1), stop_rest(1))

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(START_SECONDS)
        yield address
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(START_SECONDS)
        assert not thread.is_alive()


def run_serve(*flags: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """Runs `simcse_tf.serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "simcse_tf.serve", *flags],
        env=environment(path),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def run_here(
    main: Callable[[list[str]], None], capsys: pytest.CaptureFixture, *arguments: object
) -> subprocess.CompletedProcess:
    """Runs a command's `main` in this process, until it ends by itself."""
    flags = [str(argument) for argument in arguments]
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: main(flags))
    printed = capsys.readouterr()
    return subprocess.CompletedProcess(
        flags, ended.value.code, printed.out, printed.err
    )


def assert_one_line_mistake(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def predict_request(
    signature="", name="simcse", version=None, outputs=(), **inputs
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, value in inputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tf.make_tensor_proto(value)
        request.inputs[key].CopyFrom(value)
    return request
