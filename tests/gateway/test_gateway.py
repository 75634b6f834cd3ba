"""The gateway in front of model servers that answer, dawdle, die and change."""

import contextlib
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.any_json import bodies
from support.certificates import make_certificate
from support.fake_target import SIGNATURES, FakeTarget, embed, serving
from support.forked import start_command
from support.gateways import (
    SECONDS,
    ask,
    call,
    embeddings_of,
    gateway,
    is_ready,
    until,
)
from support.ports import free_port

from simcse_tf.client import Tls
from simcse_tf.core.errors import UserError
from simcse_tf.gateway import errors, flags, target_model
from simcse_tf.openai_api import answers
from simcse_tf.quantization import truncate
from simcse_tf.server.text_config import read_ssl

TEXTS = [f"Text {n}" for n in range(200)]
NOBODY = "127.0.0.1:1"


@pytest.fixture
def target():
    return FakeTarget()


@pytest.fixture
def address(target):
    with serving(target) as address:
        yield address


@pytest.fixture
def log(caplog, monkeypatch):
    """All that the gateway logs of failures, also what it would write once a minute."""
    monkeypatch.setattr(errors.logger, "filters", [])
    return caplog


def is_slow(number, texts, context):
    if b"slow" in texts:
        time.sleep(0.5)


def in_thread(function, *arguments, **fields):
    return ThreadPoolExecutor(1).submit(function, *arguments, **fields)


def gauge(port, name):
    page = call(port, "GET", "/metrics").text
    values = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(values[0].split()[-1])


def test_answer_is_that_of_the_model_server(target, address, monkeypatch):
    monkeypatch.setattr(answers, "PIECE_NUMBERS", 256)
    with gateway(address) as it:
        del target.sizes[:]
        answer = ask(it.port, TEXTS, encoding_format="base64")
        np.testing.assert_array_equal(embeddings_of(answer), embed(TEXTS))
        assert sorted(target.sizes) == [8, 64, 64, 64]
        tokens = sum(len(text) + 2 for text in TEXTS)
        assert answer.value["usage"]["prompt_tokens"] == tokens
        assert answer.headers["X-Model-Version"] == "1"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        floats = embeddings_of(ask(it.port, TEXTS))
        np.testing.assert_array_equal(floats, embed(TEXTS))
        roles = embeddings_of(ask(it.port, ["a"], input_type="query"))
        expected = embed(["a"], prompt="serving_query_tokens")
        np.testing.assert_array_equal(roles, expected)
        smaller = embeddings_of(ask(it.port, TEXTS, dimensions=4))
        np.testing.assert_array_equal(smaller, truncate(embed(TEXTS), 4))
        assert ask(it.port, ["x" * 20], truncate=False).status == 400
        page = call(it.port, "GET", "/metrics").text
        assert 'requests_total{code="200",path="/v1/embeddings"} 4.0' in page
        assert 'requests_total{code="400",path="/v1/embeddings"} 1.0' in page
        assert gauge(it.port, "simcse_gateway_texts_total") == 602.0


def test_broken_off_answer_does_not_look_whole(address, monkeypatch, caplog):
    def broken(request, embeddings, tokens):
        yield b'{"object":"list","data":['
        raise RuntimeError("in the middle")

    monkeypatch.setattr(answers, "PIECE_NUMBERS", 8)
    monkeypatch.setattr(answers, "pieces", broken)
    with gateway(address) as it:
        body = json.dumps({"model": "simcse", "input": ["a", "b"]})
        with socket.create_connection(("127.0.0.1", it.port), SECONDS) as client:
            client.sendall(post(body, "HTTP/1.1"))
            received = everything(client)
        assert received.startswith(b"HTTP/1.1 200")
        assert b'"data":[' in received
        assert b"\r\n0\r\n" not in received
        assert "in the middle" in caplog.text
        page = call(it.port, "GET", "/metrics").text
        assert 'requests_total{code="500",path="/v1/embeddings"} 1.0' in page


def post(body, version):
    head = f"POST /v1/embeddings {version}\r\nHost: x\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def everything(client):
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(2**16):
            received += part
    return received


def test_client_that_knows_no_chunks_gets_none(address, monkeypatch):
    monkeypatch.setattr(answers, "PIECE_NUMBERS", 8)
    with gateway(address) as it:
        body = json.dumps({"model": "simcse", "input": ["a", "b"]})
        with socket.create_connection(("127.0.0.1", it.port), SECONDS) as client:
            client.sendall(post(body, "HTTP/1.0"))
            head, _, received = everything(client).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(received)}".encode() in head
        assert len(json.loads(received)["data"]) == 2


def test_models_and_info_are_told(address):
    with gateway(address, models=("simcse", "other")) as it:
        listed = call(it.port, "GET", "/v1/models").value["data"]
        assert [model["id"] for model in listed] == ["simcse", "other"]
        assert call(it.port, "GET", "/v1/models/other").value == listed[1]
        assert call(it.port, "GET", "/v1/models/bert").status == 404
        [first, _] = call(it.port, "GET", "/info").value["models"]
        assert (first["version"], first["dimensions"]) == (1, [4, 8])
        assert ask(it.port, "a", model="other").status == 200
        assert ask(it.port, "a", model="bert").status == 404


def test_request_outlives_a_restart_of_the_model_server(target):
    port = free_port()
    with serving(target, port) as address, gateway(address) as it:
        pass
    with gateway(f"127.0.0.1:{port}", wait=False, timeout=SECONDS) as it:
        until(lambda: _answers(it.port))
        assert not is_ready(it.port)
        waiting = in_thread(ask, it.port, ["a", "b"])
        until(lambda: gauge(it.port, "simcse_gateway_retries_total") > 0)
        with serving(target, port):
            answer = waiting.result(SECONDS)
            np.testing.assert_array_equal(embeddings_of(answer), embed(["a", "b"]))
            until(lambda: is_ready(it.port))


def _answers(port):
    try:
        return call(port, "GET", "/v1/models").status == 200
    except OSError:
        return False


def test_model_server_that_stays_away_is_unavailable(target, log):
    with serving(target) as address, gateway(address, retry=0.0) as it:
        assert ask(it.port, "a").status == 200

        def refuse(number, texts, context):
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

        target.before = refuse
        answer = ask(it.port, "a")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.value["error"]["type"] == "server_error"
        # Its address is for the log alone.
        assert address not in answer.text
        assert address in log.text


def test_model_server_that_is_too_slow_times_out(target, address):
    target.before = lambda number, texts, context: b"slow" in texts and time.sleep(3)
    with gateway(address, timeout=1.0) as it:
        assert ask(it.port, ["slow"]).status == 504


@pytest.mark.parametrize(
    ("code", "details", "status"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", 503),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "message larger than max", 413),
        (grpc.StatusCode.NOT_FOUND, "Servable not found", 503),
        (grpc.StatusCode.UNAUTHENTICATED, "no token", 502),
        (grpc.StatusCode.INTERNAL, "boom", 502),
    ],
    ids=["full", "too large", "not loaded", "its token", "its failure"],
)
def test_failures_of_the_model_server_are_told(target, address, code, details, status):
    def fail(number, texts, context):
        if texts == [b"fail"]:
            context.abort(code, details)

    target.before = fail
    with gateway(address, retry=0.0) as it:
        answer = ask(it.port, "fail")
        assert answer.status == status
        assert answer.value["error"]["message"]


def test_call_that_meets_a_new_version_begins_anew(target, address):
    def change(number, texts, context):
        if len(target.sizes) == before + 2:
            target.version = 2

    with gateway(address) as it:
        before, target.before = len(target.sizes), change
        answer = ask(it.port, TEXTS)
        np.testing.assert_array_equal(embeddings_of(answer), embed(TEXTS, version=2))
        assert answer.headers["X-Model-Version"] == "2"
        assert gauge(it.port, "simcse_gateway_version_changes_total") == 1.0


def test_two_versions_never_answer_one_call(target, address):
    def change(number, texts, context):
        target.version = number

    with gateway(address) as it:
        target.before = change
        answer = ask(it.port, TEXTS)
        assert answer.status == 503
        assert answer.value["error"]["code"] == "version_changed"


def test_dimensions_are_those_of_the_version_that_answers(target, address):
    with gateway(address) as it:
        assert ask(it.port, "a", dimensions=4).status == 200
        target.version, target.signatures = 2, {**SIGNATURES}
        del target.signatures["serving_4"]
        assert ask(it.port, "a", dimensions=4).status == 400
        target.version, target.signatures = 3, SIGNATURES
        assert ask(it.port, "a", dimensions=4).status == 200


def test_more_texts_than_fit_are_refused_at_once(target, address):
    target.before = is_slow
    with gateway(address, max_texts_in_flight=3) as it:
        slow = in_thread(ask, it.port, ["slow", "a", "b"])
        until(lambda: gauge(it.port, "simcse_gateway_texts_in_flight") == 3.0)
        answer = ask(it.port, "one more")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.value["error"]["code"] == "overloaded"
        assert is_ready(it.port)
        assert slow.result(SECONDS).status == 200
        # A request that alone is too large is answered by itself.
        assert ask(it.port, TEXTS[:10]).status == 200


def test_client_that_leaves_gives_its_room_back(target, address):
    target.before = is_slow
    with gateway(address) as it:
        body = json.dumps({"model": "simcse", "input": ["slow"]})
        client = http.client.HTTPConnection("127.0.0.1", it.port)
        client.request("POST", "/v1/embeddings", body)
        until(lambda: gauge(it.port, "simcse_gateway_texts_in_flight") == 1.0)
        client.close()
        until(lambda: gauge(it.port, "simcse_gateway_texts_in_flight") == 0.0)
        page = call(it.port, "GET", "/metrics").text
        assert 'requests_total{code="499",path="/v1/embeddings"} 1.0' in page


def test_full_model_server_is_ready(target, address):
    def refuse(number, texts, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue is full")

    with gateway(address, retry=0.0) as it:
        target.before = refuse
        assert ask(it.port, "a").value["error"]["code"] == "overloaded"
        assert is_ready(it.port)


def test_key_is_asked_for_and_the_other_one_sent(target, address):
    with gateway(address, token="key", target_token="other") as it:
        assert ask(it.port, "a").status == 401
        answer = ask(it.port, "a", {"Authorization": "Bearer other"})
        assert answer.value["error"]["code"] == "invalid_api_key"
        assert ask(it.port, "a", {"Authorization": "Bearer key"}).status == 200
        assert is_ready(it.port)
        assert call(it.port, "GET", "/metrics").status == 401
        assert set(target.tokens) == {"Bearer other"}


def test_both_sides_take_tls(target, tmp_path):
    directory = make_certificate(tmp_path)
    key, certificate = (
        (directory / name).read_bytes() for name in ("key.pem", "cert.pem")
    )
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with (
        serving(target, credentials=credentials) as address,
        gateway(
            address,
            target_tls=Tls(ca=directory / "cert.pem"),
            ssl=read_ssl(directory / "ssl.config"),
        ) as it,
    ):
        answer = ask(it.port, "a", tls=True)
        np.testing.assert_array_equal(embeddings_of(answer), embed(["a"]))


def test_running_requests_end_before_the_gateway_does(target, address):
    target.before = is_slow
    with gateway(address) as it:
        slow = in_thread(ask, it.port, ["slow"])
        until(lambda: gauge(it.port, "simcse_gateway_texts_in_flight") == 1.0)
        it.stop()
        assert slow.result(SECONDS).status == 200
        it.thread.join(SECONDS)
        with pytest.raises(ConnectionRefusedError):
            ask(it.port, "a")


def mistake(address, **settings):
    with gateway(address, wait=False, **settings) as it:
        until(lambda: it.error)
        assert isinstance(it.error, UserError)
        return str(it.error)


def test_model_server_that_nobody_finds_is_a_mistake():
    assert "cannot reach the server at 127.0.0.1:1" in mistake(NOBODY, timeout=0.1)


def test_model_without_token_counts_is_a_mistake(target, address):
    target.signatures = {"serving_default": 8}
    assert "export the model again" in mistake(address)


def test_requests_larger_than_the_batches_there_are_a_mistake(target, address):
    target.most_rows = 32
    assert "--max_batch_size: error from the server" in mistake(address)
    with gateway(address, max_batch_size=32) as it:
        assert embeddings_of(ask(it.port, TEXTS)).shape == (200, 8)


def test_port_that_is_taken_is_a_mistake(address, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("support.gateways.free_port", lambda: port)
        assert f"--port: cannot listen on 127.0.0.1:{port}" in mistake(address)


def test_answer_that_is_none_is_told(target, address, log):
    def other(texts, *_):
        return np.full((len(texts), 8), np.nan, np.float32)

    with gateway(address) as it, pytest.MonkeyPatch.context() as patch:
        patch.setattr("support.fake_target.embed", other)
        answer = ask(it.port, "a")
        assert answer.status == 502
        assert "NaN" in log.text


def test_many_clients_get_their_own_answers(address):
    with gateway(address) as it, ThreadPoolExecutor(16) as clients:
        texts = [[f"{n} of {m}" for n in range(m % 5 + 1)] for m in range(100)]
        done = list(clients.map(lambda some: ask(it.port, some), texts))
        for some, answer in zip(texts, done, strict=True):
            np.testing.assert_array_equal(embeddings_of(answer), embed(some))
        assert threading.active_count() < 100


@pytest.mark.slow
def test_command_tells_when_it_is_ready_and_ends_by_a_signal(address, tmp_path):
    port = free_port()
    flags = ("--target", address, "--port", str(port), "--timeout", "20")
    process = start_command(
        "simcse_tf.gateway.__main__", *flags, cwd=tmp_path, pipes=True
    )
    try:
        told = f"Serving simcse of {address} at http://127.0.0.1:{port}/v1\n"
        assert process.stdout.readline() == told
        np.testing.assert_array_equal(embeddings_of(ask(port, ["a"])), embed(["a"]))
        process.terminate()
        assert process.wait() == 0
    finally:
        process.close()


def test_many_who_ask_for_health_cause_one_request(target, address, monkeypatch):
    monkeypatch.setattr(target_model, "FRESH_SECONDS", -1.0)
    with gateway(address) as it, ThreadPoolExecutor(16) as clients:
        del target.sizes[:]
        target.before = lambda *_: time.sleep(0.5)
        ready = list(clients.map(lambda _: is_ready(it.port), range(16)))
        assert all(ready)
        assert len(target.sizes) < 8


def test_gateway_starts_before_a_server_that_is_full(target, address):
    def refuse(number, texts, context):
        if number < 6:
            context.abort(grpc.StatusCode.UNAVAILABLE, "queue is full")

    target.before = refuse
    with gateway(address) as it:
        assert it.error is None
        assert ask(it.port, "a").status == 200


def test_open_gateway_is_told(tmp_path, capsys):
    options = flags.parse(["--target", "x:1", "--host", "0.0.0.0"])
    assert "note: whoever reaches 0.0.0.0" in capsys.readouterr().err
    assert (options.models, options.port) == (("simcse",), 8080)
    token = tmp_path / "token"
    token.write_text("key")
    token.chmod(0o600)
    many = ["--model", "a", "--model", "b", "--host", "::", "--token_file", str(token)]
    options = flags.parse(["--target", "dns:///x:1", *many])
    assert (options.models, options.token) == (("a", "b"), "key")
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="--host: no such address"):
        flags.parse(["--target", "x:1", "--host", "no such host"])


def test_any_json_is_answered_or_refused(address):
    fields = ["model", "input", "dimensions", "input_type", "truncate", "x"]

    with gateway(address) as it:

        @settings(max_examples=40, deadline=None)
        @given(bodies(fields), st.sampled_from([{}, {"model": "simcse", "input": "a"}]))
        def send(document, others):
            if isinstance(document, dict):
                document = {**others, **document}
            answer = call(it.port, "POST", "/v1/embeddings", json.dumps(document))
            assert answer.status == 200 or 400 <= answer.status < 500, document
            assert answer.value.keys() & {"error", "data"}

        send()
