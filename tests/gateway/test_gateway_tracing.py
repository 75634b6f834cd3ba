"""Traces and request ids through the gateway."""

import logging

import pytest
from support.fake_target import FakeTarget, serving
from support.gateways import ask, gateway
from support.spans import kept_spans

from simcse_tf.core import logs
from simcse_tf.gateway import flags
from simcse_tf.openai_api import answers

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {
    "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    "tracestate": "other=1",
    "x-request-id": "order-17",
}


@pytest.fixture
def passed_on():
    """What the model server was told beside the last request."""
    return {}


@pytest.fixture
def port(passed_on):
    def keep(number, texts, context):
        passed_on.update(context.invocation_metadata())

    with serving(FakeTarget(keep)) as address, gateway(address) as it:
        yield it.port


def test_a_gateway_that_is_not_traced_passes_the_trace_on(port, passed_on):
    answer = ask(port, ["a"], HEADERS)
    assert HEADERS.items() <= passed_on.items()
    assert answer.headers["x-request-id"] == "order-17"


def test_the_model_server_continues_the_gateways_trace(port, passed_on, monkeypatch):
    exporter, _ = kept_spans(monkeypatch)
    ask(port, ["a", "b"], HEADERS)
    client, answered = exporter.get_finished_spans()
    span = f"{client.context.span_id:016x}"
    assert passed_on["traceparent"] == f"00-{TRACE}-{span}-01"
    assert passed_on["tracestate"] == "other=1"
    assert passed_on["x-request-id"] == "order-17"
    assert client.parent.span_id == answered.context.span_id
    assert answered.name == "POST /v1/embeddings"
    expected = {
        "http.response.status_code": 200,
        "simcse.model.name": "simcse",
        "simcse.model.version": 1,
        "simcse.texts": 2,
        "simcse.request_id": "order-17",
    }
    assert expected.items() <= answered.attributes.items()


def test_the_gateways_log_has_a_line_for_a_request(passed_on, caplog):
    observing = flags.parse(["--target", "x:1", "--log_requests"]).observing
    caplog.set_level(logging.INFO, "simcse_tf.access")
    with serving(FakeTarget()) as address, gateway(address, observing=observing) as it:
        caplog.clear()
        ask(it.port, ["a", "b"], HEADERS)
    [record] = [it for it in caplog.records if it.name == "simcse_tf.access"]
    expected = {"path": "/v1/embeddings", "status": 200, "texts": 2, "version": 1}
    assert expected.items() <= getattr(record, logs.FIELDS).items()


def test_a_long_answer_has_its_id_and_a_refusal_too(port, monkeypatch):
    monkeypatch.setattr(answers, "PIECE_NUMBERS", 8)
    answer = ask(port, ["a"] * 100, HEADERS)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers.get_all("x-request-id") == ["order-17"]
    refused = ask(port, ["a"], HEADERS, model="other")
    assert refused.status == 404
    assert refused.headers["x-request-id"] == "order-17"
