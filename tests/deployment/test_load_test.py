"""The load test of serving/, against a gRPC server that costs next to nothing."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import grpc
import pytest
from support.servers import assert_one_line_mistake, environment, run_here
from tensorflow_serving.apis import predict_pb2

BASE = ["--target", "127.0.0.1:1", "--input", "nothing.txt"]
SCRIPT = Path(__file__).parents[2] / "serving" / "load_test.py"


@pytest.fixture(scope="module")
def load_test():
    spec = importlib.util.spec_from_file_location("load_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Echo(grpc.GenericRpcHandler):
    """Answers `Predict` with as many embeddings as texts, or refuses every n-th."""

    def __init__(self, refuse_every: int):
        self._refuse_every = refuse_every
        self._count = count(1)
        self.texts: set[bytes] = set()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self._predict)

    def _predict(self, request, context):
        if next(self._count) % self._refuse_every == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        texts = predict_pb2.PredictRequest.FromString(request).inputs["text"]
        assert texts.tensor_shape.dim[0].size == len(texts.string_val)
        self.texts.update(texts.string_val)
        response = predict_pb2.PredictResponse()
        shape = response.outputs["embedding"].tensor_shape
        shape.dim.add(size=len(texts.string_val))
        shape.dim.add(size=1)
        return response.SerializeToString()


@pytest.fixture
def serve():
    servers = []

    def serve(refuse_every=10**9):
        server = grpc.server(ThreadPoolExecutor(8))
        handler = Echo(refuse_every)
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", handler

    yield serve
    for server in servers:
        server.stop(0)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(f"sentence {i}" for i in range(20)))
    return path


@pytest.fixture
def measure(load_test, monkeypatch):
    """Runs the command in this process, which spares TensorFlow's start; its stages."""
    monkeypatch.setattr(load_test, "WARMUP_SECONDS", 0.2)

    def measure(out, *flags):
        load_test.main(["--json", str(out), *map(str, flags)])
        return json.loads(out.read_text())["stages"]

    return measure


@pytest.mark.slow
def test_ladder_is_measured_written_and_drawn(serve, texts, tmp_path, measure, capsys):
    target, echo = serve()
    picture = tmp_path / "out.png"
    flags = ["--clients", "1,4", "--seconds", 0.5, "--texts-per-request", 2]
    stages = measure(
        *(tmp_path / "out.json", "--target", target, "--input", texts),
        *(*flags, "--plot", picture),
    )
    assert [stage["clients"] for stage in stages] == [1, 4]
    printed = capsys.readouterr().out
    for stage in stages:
        assert stage["requests"] > 0
        assert stage["sentences_per_second"] == 2 * stage["requests"] / 0.5
        latency = stage["latency_ms"]
        ordered = [latency[name] for name in ("p50", "p95", "p99", "max")]
        assert 0 < ordered[0] <= ordered[1] <= ordered[2] <= ordered[3]
        assert stage["errors"] == {}
        assert 0 < stage["generator_cores"] < (os.cpu_count() or 1) + 0.5
        assert f"{stage['clients']} clients: " in printed
    assert echo.texts == {f"sentence {i}".encode() for i in range(20)}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.with_suffix(".svg").exists()


@pytest.mark.slow
def test_open_loop_keeps_its_rate_and_follows_memory(serve, texts, tmp_path, measure):
    target, _ = serve()
    flags = ["--rate", 100, "--seconds", 1.5, "--pid", os.getpid()]
    out = tmp_path / "out.json"
    [stage] = measure(out, "--target", target, "--input", texts, *flags)
    assert 60 < stage["sentences_per_second"] < 140
    assert all(megabytes > 1 for _, megabytes in stage["memory"])


def test_refusals_are_counted_by_code_and_kept_out_of_the_latencies(
    serve, texts, tmp_path, measure
):
    target, _ = serve(refuse_every=3)
    flags = ["--clients", 2, "--seconds", 1]
    out = tmp_path / "out.json"
    [stage] = measure(out, "--target", target, "--input", texts, *flags)
    refused = stage["errors"].pop("RESOURCE_EXHAUSTED")
    assert stage["errors"] == {}
    # Every third call, give or take those on their way at both ends.
    assert abs(stage["requests"] - 2 * refused) <= 6
    assert stage["error_latency_ms"]["p50"] > 0


def test_only_calls_that_end_in_the_window_count(load_test, monkeypatch):
    monkeypatch.setattr(load_test, "WARMUP_SECONDS", 0.05)
    recorder = load_test.Recorder(seconds=0.05)
    start = time.perf_counter()
    recorder.add(start, None)
    time.sleep(0.07)
    recorder.add(start, None)
    recorder.add(start, grpc.StatusCode.UNAVAILABLE)
    time.sleep(0.05)
    recorder.add(start, None)
    summary = recorder.summary(texts=3)
    assert summary["requests"] == 1
    assert summary["sentences_per_second"] == pytest.approx(3 / 0.05)
    assert 70 <= summary["latency_ms"]["p50"] <= 100
    assert summary["errors"] == {"UNAVAILABLE": 1}


def test_memory_growth_leaves_the_start_out(load_test):
    memory = [(i, 50 + 10 * min(i, 10)) for i in range(100)]
    assert load_test._growth(memory) == 0
    assert load_test._growth([(i, 100 + i) for i in range(100)]) == pytest.approx(
        194.5 / 114.5 - 1
    )
    assert load_test._growth(memory[:9]) is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--input", "--target"]),
        (BASE, ["nothing.txt"]),
        (["--clients", "0"], ["--clients", "'0'"]),
        (["--rate", "-1"], ["--rate", "'-1'"]),
        (
            ["--rate", "9", "--plot", "x.png", "--target", "x", "--input", "x"],
            ["--plot"],
        ),
    ],
)
def test_mistakes_are_one_line(load_test, capsys, flags, words):
    assert_one_line_mistake(run_here(load_test.main, capsys, *flags), *words)


def test_a_mistake_ends_the_script():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *BASE],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_one_line_mistake(done, "nothing.txt")


def test_mistakes_in_the_flags_together_are_one_line(
    load_test, texts, tmp_path, capsys
):
    base = ["--target", "127.0.0.1:1", "--input", texts]
    for flags, word in (
        (["--texts-per-request", "21"], "found 20"),
        (["--json", tmp_path / "no" / "x.json"], "no such directory"),
        (["--pid", 2**22 + 1], "--pid"),
        ([], "UNAVAILABLE"),
    ):
        done = run_here(load_test.main, capsys, *base, *flags)
        assert_one_line_mistake(done, word)
