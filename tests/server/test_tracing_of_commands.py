"""`serve --tracing`: its spans at a collector, its environment, its end."""

import json
import signal
import time

import pytest
from support.forked import run_script
from support.servers import (
    CALL_SECONDS,
    assert_one_line_mistake,
    open_stubs,
    predict_request,
    run_here,
    running_server,
)
from support.spans import collector

from simcse_tf import serve

PREDICT = "tensorflow.serving.PredictionService/Predict"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
FLAGS = ("--tracing", "--log_format", "json", "--log_requests")


def ask(target, *metadata):
    with open_stubs(target) as stubs:
        return stubs.predictions.Predict(
            predict_request(text=[b"a"]), timeout=CALL_SECONDS, metadata=metadata
        )


@pytest.mark.slow
def test_spans_reach_a_collector_before_the_server_ends(base_path):
    with collector() as (endpoint, spans):
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_SERVICE_NAME": "embeddings",
            "OTEL_BSP_SCHEDULE_DELAY": "600000",  # later than the server's end
        }
        with running_server(base_path, *FLAGS, **environment) as server:
            ask(server.target, PARENT, ("x-request-id", "order-17"))
            server.process.terminate()
            assert server.process.wait(CALL_SECONDS) == 0
            log = [json.loads(line) for line in server.process.stderr]
        found = {
            span.name: span for service, span in spans() if service == "embeddings"
        }
    assert set(found) == {PREDICT, "queue", "batch"}
    assert {span.trace_id.hex() for span in found.values()} == {TRACE}
    assert found["batch"].links[0].span_id == found[PREDICT].span_id
    [line] = [it for it in log if it["logger"] == "simcse_tf.access"]
    assert line["request_id"] == "order-17"
    assert line["trace_id"] == TRACE
    assert line["span_id"] == found[PREDICT].span_id.hex()


@pytest.mark.slow
def test_a_collector_that_is_not_there_is_told_of_once_and_delays_nobody(
    base_path,
):
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with running_server(base_path, "--tracing", **environment) as server:
        for _ in range(3):
            ask(server.target)
            time.sleep(0.3)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(CALL_SECONDS) == 0
        assert time.monotonic() - start < 10
        lines = server.process.stderr.read().splitlines()
    assert len(lines) == 1, lines
    assert "the collector at http://127.0.0.1:1 takes no spans, they are" in lines[0]
    assert "onnection" in lines[0]  # why not


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", ["http/protobuf", "received grpc"]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", ["http://HOST:PORT"]),
    ],
    ids=["protocol", "endpoint"],
)
def test_what_the_exporter_cannot_do_is_refused_at_once(
    base_path, monkeypatch, capsys, name, value, words
):
    monkeypatch.setenv(name, value)
    done = run_here(
        serve.main, capsys, "--model_base_path", base_path, "--port=0", "--tracing"
    )
    assert_one_line_mistake(done, name, *words)


def test_without_its_packages_tracing_says_how_to_install_them(
    base_path, monkeypatch, capsys
):
    monkeypatch.setattr("simcse_tf.core.extras._is_there", lambda module: False)
    done = run_here(
        serve.main, capsys, "--model_base_path", base_path, "--port=0", "--tracing"
    )
    assert_one_line_mistake(done, 'pip install "simcse-tf[tracing]"')


def test_tf_serving_has_none_of_the_flags(base_path, monkeypatch, capsys, tmp_path):
    binary = tmp_path / "tensorflow_model_server"
    binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for flag in ("--tracing", "--log_requests", "--log_format=json"):
        done = run_here(serve.main, capsys, "--model_base_path", base_path, flag)
        assert_one_line_mistake(done, flag.partition("=")[0], "has no such flag")


def test_nothing_imports_opentelemetry_by_itself(tmp_path):
    run_script(WITHOUT, cwd=tmp_path)


WITHOUT = """
import sys
import simcse_tf.server.run
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = None
from simcse_tf.client import Client, Retry, ServerError
try:
    Client("127.0.0.1:1", retry=Retry(attempts=1)).status()
except ServerError as error:
    assert error.code.name == "UNAVAILABLE"
"""
