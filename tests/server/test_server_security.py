"""TLS, a token, health, metrics and the end of the server, in a real process."""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from types import SimpleNamespace
from unittest.mock import Mock

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.attacks import many, still_open
from support.certificates import make_certificate
from support.servers import (
    assert_one_line_mistake,
    free_port,
    run_here,
    running_server,
    server_in_thread,
)

from simcse_tf import serve
from simcse_tf.client import Client, Retry, ServerError, Tls
from simcse_tf.core.errors import UserError
from simcse_tf.core.token_file import read_token
from simcse_tf.server import run as run_module
from simcse_tf.server import text_config
from simcse_tf.server.connections import Limits
from simcse_tf.server.metrics import Metrics
from simcse_tf.server.security import ssl_context

TOKEN = "a-secret"
SECONDS = 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A directory with key.pem, cert.pem and an ssl.config made of them."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(base_path, certificate, tmp_path_factory):
    """A server with TLS and a token."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    port = free_port()
    with running_server(
        base_path,
        *("--rest_api_port", str(port)),
        *("--ssl_config_file", str(certificate / "ssl.config")),
        *("--token_file", str(token)),
    ) as server:
        server.rest = f"https://127.0.0.1:{port}"
        yield server


def get(url, token=None, ca=None):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    context = ssl.create_default_context(cafile=ca) if ca else None
    with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:
        return answer.read().decode()


def health(channel, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.slow
def test_grpc_takes_tls_and_the_token_only(secured, certificate):
    tls = Tls(ca=str(certificate / "cert.pem"))
    with Client(secured.target, tls=tls, token=TOKEN) as client:
        assert client.encode(["a"]).shape == (1, 8)
    for token in (None, "another", TOKEN + "x"):
        with Client(secured.target, tls=tls, token=token) as client:
            with pytest.raises(ServerError) as caught:
                client.encode(["a"])
            assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    with Client(secured.target, retry=Retry(attempts=1)) as client:
        with pytest.raises(ServerError) as caught:
            client.similarity(["a"], ["b"])
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_rest_takes_tls_and_the_token_only(secured, certificate):
    ca, url = str(certificate / "cert.pem"), f"{secured.rest}/v1/models/simcse"
    assert "AVAILABLE" in get(url, TOKEN, ca)
    for token in (None, "another", "ä"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(url, token and token.encode().decode("latin-1"), ca)
        assert caught.value.code == 401
        assert "authorization" in json.load(caught.value)["error"]["message"]
    with pytest.raises(http.client.BadStatusLine):
        get(url.replace("https", "http"), TOKEN)


def test_health_is_answered_without_the_token(secured, certificate):
    credentials = grpc.ssl_channel_credentials((certificate / "cert.pem").read_bytes())
    with grpc.secure_channel(secured.target, credentials) as channel:
        for service in ("", "simcse", "tensorflow.serving.PredictionService"):
            assert health(channel, service) == "SERVING"
        with pytest.raises(grpc.RpcError) as caught:
            health(channel, "other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff", "é".encode()])
def test_a_file_without_a_token_is_a_mistake(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(UserError, match="--token_file: expected one token in ASCII"):
        read_token(tmp_path / "token", "--token_file")


@pytest.mark.parametrize("wrong", ["garbage", "another", "encrypted"])
def test_a_wrong_key_is_told_by_its_flag(certificate, tmp_path, capsys, wrong):
    command = "openssl genrsa -out key.pem"
    if wrong == "encrypted":
        own = certificate / "key.pem"
        command = f"openssl rsa -aes256 -passout pass:a -in {own} -out key.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    key = "garbage" if wrong == "garbage" else (tmp_path / "key.pem").read_text()
    cert = (certificate / "cert.pem").read_text()
    config = f"server_key: {json.dumps(key)} server_cert: {json.dumps(cert)}"
    (tmp_path / "ssl.config").write_text(config)
    flags = (
        "--model_base_path",
        tmp_path,
        "--ssl_config_file",
        tmp_path / "ssl.config",
    )
    done = run_here(serve.main, capsys, *flags)
    assert_one_line_mistake(
        done, "--ssl_config_file: expected a key and its certificate"
    )


def test_a_handshake_that_does_not_end_is_given_up(certificate, monkeypatch):
    monkeypatch.setattr("simcse_tf.server.connections.HANDSHAKE_SECONDS", 1.0)
    config = text_config.read_ssl(certificate / "ssl.config")
    ca = str(certificate / "cert.pem")
    with (
        server_in_thread(
            SimpleNamespace(version=1),
            tls=ssl_context(config),
            limits=Limits(in_all=6, of_an_address=4),
        ) as server,
        many(server.rest_port, 3) as silent,
        many(server.rest_port, 3, b"\x16\x03\x01\x02\x00") as slow,
    ):
        time.sleep(0.3)
        assert still_open([*silent, *slow]) == 4
        url = f"https://127.0.0.1:{server.rest_port}/v1/models/simcse"
        assert "AVAILABLE" in get(url, ca=ca)
        time.sleep(1.5)
        assert still_open([*silent, *slow]) == 0
        assert "AVAILABLE" in get(url, ca=ca)


def test_a_server_that_is_open_to_all_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("simcse_tf.server.run.run", Mock())
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    flags = ["--port", "0", "--model_base_path", str(tmp_path)]
    for host, more, told in (
        ("0.0.0.0", [], True),
        ("0.0.0.0", ["--token_file", str(tmp_path / "token")], False),
        ("127.0.0.1", [], False),
        ("localhost", [], False),
    ):
        serve.main([*flags, "--host", host, *more])
        printed = capsys.readouterr().err
        assert ("whoever reaches 0.0.0.0 can use this server" in printed) == told, host
        assert printed.count("\n") == told


def test_a_server_goes_on_when_nobody_reads_what_it_prints(monkeypatch, caplog):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=False) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        run_module.announce("Serving simcse")
        monkeypatch.undo()
        assert "cannot write to stdout: Broken pipe" in caplog.text
        with contextlib.suppress(OSError):
            closed.close()
    os.close(writing)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
def test_a_token_that_everyone_can_read_is_refused(tmp_path, mode):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    (tmp_path / "link").symlink_to(token)
    token.chmod(mode)
    for path in (token, tmp_path / "link"):
        with pytest.raises(UserError, match="--token_file: every user .* chmod 600"):
            read_token(path, "--token_file")
    token.chmod(0o440)  # as Kubernetes mounts it with defaultMode: 0440
    assert read_token(tmp_path / "link", "--token_file") == TOKEN


@pytest.mark.parametrize("content", ["two\nlines", "a\0b", "x" * 5000, "\x1b[2J"])
def test_a_token_that_no_header_can_hold_is_refused(tmp_path, content):
    (tmp_path / "token").write_text(content)
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(UserError, match="expected one token in ASCII"):
        read_token(tmp_path / "token", "--token_file")


def test_a_pipe_or_a_directory_is_no_token_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(UserError, match="--token_file: "):
            read_token(path, "--token_file")


def test_what_was_asked_is_counted(secured, certificate):
    ca = str(certificate / "cert.pem")

    def page():
        return get(f"{secured.rest}/monitoring/prometheus/metrics", TOKEN, ca)

    before = counts(page())
    with Client(secured.target, tls=Tls(ca=ca), token=TOKEN) as client:
        client.encode([str(i) for i in range(100)])
    with Client(secured.target, model="other", tls=Tls(ca=ca), token=TOKEN) as other:
        with pytest.raises(ServerError) as refused:
            other.encode(["a"])
        assert refused.value.code is grpc.StatusCode.NOT_FOUND
    text = page()
    new = counts(text)
    new.subtract(before)
    prefix, model = ":tensorflow:serving:", '{model_name="simcse"'
    assert new[f'{prefix}request_count{model},status="OK"}}'] == 2
    assert "other" not in text
    latency = f'{prefix}request_latency_count{{API="Predict",entrypoint="GRPC",model'
    assert new[f'{latency}_name="simcse"}}'] == 2
    batches = f"{prefix}batching_session:processed_batch_size"
    assert 100 <= new[f"{batches}_sum{model}}}"] <= 128
    assert counts(text)[f"{prefix}batching_session:queued_texts{model}}}"] == 0
    assert new[f"{prefix}runtime_latency_count{model}}}"] >= 1


def counts(page):
    """The numbers of a page of metrics, by name and labels."""
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if line[0] == ":"]
    return Counter({name: float(value) for name, value in lines})


def test_latencies_are_in_microseconds():
    metrics = Metrics()
    metrics.request("m", "Predict", "REST", "UNAVAILABLE", 0.25)
    page, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    line = ':request_latency_sum{API="Predict",entrypoint="REST",model_name="m"} 250000'
    assert line in page.decode()
    assert 'request_count{model_name="m",status="UNAVAILABLE"} 1' in page.decode()


@pytest.mark.slow
def test_a_stopping_server_is_not_healthy_and_ends_its_work(base_path):
    with running_server(base_path) as server:
        channel = grpc.insecure_channel(server.target)
        with channel, Client(server.target) as client:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=SECONDS
            )
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            texts = ["a longer text " * 50] * 20_000
            rows = []
            working = threading.Thread(target=lambda: rows.append(first(client, texts)))
            working.start()
            time.sleep(0.2)
            server.process.send_signal(signal.SIGHUP)  # as SIGTERM: tested with REST
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch.cancel()
            working.join(SECONDS)
        assert server.process.wait(SECONDS) == 0
    assert rows == [(64, 8)]


def first(client, texts):
    """The shape of the first answer to many texts."""
    answers = client.encode_stream(texts)
    try:
        return next(answers).shape
    finally:
        answers.close()
