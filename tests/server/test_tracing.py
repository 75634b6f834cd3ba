"""Spans of clients, requests and batches, and the trace context between processes."""

import asyncio
import contextlib
import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from support import http2
from support.servers import CALL_SECONDS, VERSION, server_in_thread
from support.spans import kept_spans

from simcse_tf.client import AsyncClient, Client, Retry, ServerError
from simcse_tf.core.request_context import current
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.observed_requests import observing_middleware
from simcse_tf.server.servable import Servable

PREDICT = "tensorflow.serving.PredictionService/Predict"
REST = "/v1/models/simcse:predict"
POST = "POST /v1/models/{model}:predict"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
SECONDS = 10


@pytest.fixture(scope="module")
def server(base_path):
    path = base_path / str(VERSION)
    batching = BatchingParameters(8, 200_000, num_batch_threads=1)
    with ThreadPoolExecutor(1) as executor:
        servable = Servable(VERSION, path, batching, executor)
        with server_in_thread(
            servable, middlewares=[observing_middleware(log=False)]
        ) as address:
            yield address


@pytest.fixture
def kept(monkeypatch):
    return kept_spans(monkeypatch)


def wait_for(exporter, count):
    """The spans once there are so many: a refusal is sent before its span ends."""
    end = time.monotonic() + SECONDS
    while len(exporter.get_finished_spans()) < count and time.monotonic() < end:
        time.sleep(0.01)
    found = exporter.get_finished_spans()
    assert len(found) == count, [span.name for span in found]
    return found


def named(found, *names):
    """The only spans of these names."""
    by_name = {span.name: span for span in found}
    return [by_name[name] for name in names]


def post(server, document, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
    with contextlib.closing(connection):
        connection.request("POST", REST, json.dumps(document), headers)
        response = connection.getresponse()
        return response, response.read()


def ids(span):
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def test_one_trace_from_the_program_to_the_batch(server, kept):
    exporter, tracer = kept
    with (
        tracer.start_as_current_span("program") as program,
        Client(server.target) as client,
    ):
        client.encode(["One.", "Two."])
    found = wait_for(exporter, 5)
    batch, queue = named(found, "batch", "queue")
    calls = {span.kind.name: span for span in found if span.name == PREDICT}
    client, answered = calls["CLIENT"], calls["SERVER"]
    chain = [program, client, answered, batch]
    assert [span.parent.span_id for span in chain[1:]] == [
        span.context.span_id for span in chain[:-1]
    ]
    assert queue.parent.span_id == answered.context.span_id
    assert queue.end_time <= batch.start_time
    assert len({span.context.trace_id for span in [*chain, queue]}) == 1
    port = int(server.target.rpartition(":")[2])
    assert client.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": PREDICT,
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "server.port": port,
        "simcse.model.name": "simcse",
        "simcse.texts": 2,
    }
    attributes = dict(answered.attributes)
    assert 0 < attributes.pop("simcse.queue.seconds") < CALL_SECONDS
    assert len(attributes.pop("simcse.request_id")) == 32
    assert attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": PREDICT,
        "rpc.response.status_code": "OK",
        "simcse.model.name": "simcse",
        "simcse.model.version": VERSION,
        "simcse.texts": 2,
        "simcse.batch.texts": 2,
    }


def test_a_batch_is_linked_with_each_request_that_it_serves(server, kept):
    exporter, _ = kept

    async def ask():
        async with AsyncClient(server.target) as client:
            await asyncio.gather(*(client.encode([text]) for text in "abc"))

    asyncio.run(ask())
    found = wait_for(exporter, 3 * 3 + 1)
    [batch] = named(found, "batch")
    answered = [span for span in found if span.kind.name == "SERVER"]
    assert len({span.context.trace_id for span in answered}) == 3
    assert sorted(map(ids, batch.links)) == sorted(map(ids, answered))
    for span in answered:
        assert [ids(link) for link in span.links] == [ids(batch)]
        assert span.attributes["simcse.batch.texts"] == 3
    assert batch.attributes == {"simcse.batch.texts": 3, "simcse.batch.requests": 3}
    assert batch.parent.span_id in {span.context.span_id for span in answered}


def test_rest_continues_the_trace_of_its_client(server, kept):
    exporter, _ = kept
    response, _ = post(
        server, {"instances": ["a"]}, traceparent=SAMPLED, tracestate="other=1"
    )
    [span] = named(exporter.get_finished_spans(), POST)
    assert response.status == 200
    assert (span.parent.trace_id, span.parent.span_id) == (
        int(TRACE, 16),
        int(PARENT, 16),
    )
    assert span.context.trace_state.to_header() == "other=1"
    assert span.kind.name == "SERVER"
    expected = {
        "http.request.method": "POST",
        "http.route": POST.split()[1],
        "http.response.status_code": 200,
        "url.path": REST,
        "url.scheme": "http",
        "simcse.texts": 1,
    }
    assert expected.items() <= dict(span.attributes).items()


def test_a_client_that_records_nothing_is_not_recorded(server, kept):
    exporter, _ = kept
    post(server, {"instances": ["a"]}, traceparent=f"{SAMPLED[:-2]}00")
    post(server, {"instances": ["b"]}, traceparent=SAMPLED)
    found = wait_for(exporter, 3)
    assert {ids(span)[0] for span in found} == {TRACE}
    assert {span.name for span in found} == {"queue", "batch", POST}


@pytest.mark.parametrize(
    ("document", "status", "error"),
    [({"instances": [[1]]}, 400, None), ({"wrong": 1}, 400, None)],
    ids=["input", "document"],
)
def test_a_mistake_of_the_client_is_no_error_of_the_server(
    server, kept, document, status, error
):
    exporter, _ = kept
    response, _ = post(server, document)
    [span] = named(exporter.get_finished_spans(), POST)
    assert response.status == span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == error
    assert span.status.is_unset


def test_a_failure_is_an_error_of_client_and_server(server, kept):
    exporter, _ = kept
    with (
        Client(server.target, retry=Retry(attempts=1)) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(["a"], "int8")  # which the model lacks
    found = {it.kind.name: it for it in wait_for(exporter, 2)}
    assert found["CLIENT"].attributes["error.type"] == "FAILED_PRECONDITION"
    assert not found["CLIENT"].status.is_ok
    # As OpenTelemetry's conventions for gRPC have it.
    assert found["SERVER"].status.is_unset
    code = found["SERVER"].attributes["rpc.response.status_code"]
    assert code == "FAILED_PRECONDITION"
    asked = found["SERVER"].attributes["simcse.request_id"]
    assert caught.value.request_id == asked
    assert f"[request {asked}]" in str(caught.value)


HOSTILE = {
    "empty": "",
    "garbage": "garbage",
    "long": "0" * 4000,
    "no ids": f"00-{'0' * 32}-{'0' * 16}-01",
    "upper case": SAMPLED.upper(),
    "too much": f"{SAMPLED}-more",
    "version ff": f"ff{SAMPLED[2:]}",
    "twice": f"{SAMPLED},{SAMPLED}",
    "not ASCII": "é" * 55,
}


@pytest.mark.parametrize("parent", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_traceparent_is_ignored_in_silence(server, kept, parent, caplog):
    exporter, _ = kept
    response, _ = post(
        server,
        {"instances": ["a"]},
        traceparent=parent.encode("latin-1"),
        tracestate="=,=",
    )
    assert response.status == 200
    if parent.isascii():
        with grpc.insecure_channel(server.target) as channel:
            call = channel.unary_unary(STATUS)
            with pytest.raises(grpc.RpcError) as caught:
                call(
                    b"",
                    timeout=CALL_SECONDS,
                    metadata=[("traceparent", parent), ("traceparent-bin", b"\xff")],
                )
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {
        span.parent for span in exporter.get_finished_spans() if span.kind.value == 1
    } == {None}
    assert not caplog.records


def test_a_binary_traceparent_over_grpc_is_ignored_in_silence(server, kept, caplog):
    exporter, _ = kept
    address = ("127.0.0.1", int(server.target.rpartition(":")[2]))
    with socket.create_connection(address, timeout=SECONDS) as connection:
        binary = (b"traceparent", bytes(range(128, 183)))
        asked = http2.call(1, STATUS.encode(), binary)
        connection.sendall(http2.HELLO + asked + http2.message(1, b"", end=True))
        [span] = wait_for(exporter, 1)
    assert span.name == STATUS[1:]
    assert span.parent is None
    assert not caplog.records


HOSTILE_STATES = [
    "=",
    "a=1,a=2",
    "A=1",
    "a=é",
    ",".join(f"k{i}=1" for i in range(33)),
]


@pytest.mark.parametrize("state", HOSTILE_STATES, ids=range(len(HOSTILE_STATES)))
def test_a_hostile_tracestate_is_left_out_in_silence(server, kept, state, caplog):
    exporter, _ = kept
    post(server, {"instances": ["a"]}, traceparent=SAMPLED, tracestate=state.encode())
    [span] = named(exporter.get_finished_spans(), POST)
    assert ids(span)[0] == TRACE
    assert not span.context.trace_state
    assert not caplog.records


def test_names_of_spans_do_not_follow_what_clients_send(server, kept):
    exporter, _ = kept
    for path in ["/v1/models/a", "/v1/models/b/labels/x", "/v1/strange", "/strange"]:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
        with contextlib.closing(connection):
            connection.request("GET", path)
            connection.getresponse().read()
    names = [span.name for span in exporter.get_finished_spans()]
    assert names == [
        "GET /v1/models/{model}",
        "GET /v1/models/{model}/labels/{label}",
        "GET",
    ]


def test_a_failing_graph_is_an_error_of_its_batch(server, kept):
    exporter, _ = kept
    with grpc.insecure_channel(server.target):
        response, _ = post(
            server, {"signature_name": "read", "instances": ["/no/such/file"]}
        )
    assert response.status == 404
    [batch] = named(wait_for(exporter, 3), "batch")
    assert batch.attributes["error.type"] == "NotFoundError"
    assert not batch.events  # whose message would name the file


def test_retries_are_events_of_the_call(kept):
    exporter, _ = kept
    with (
        Client("127.0.0.1:1", retry=Retry(attempts=3, first=0.01)) as client,
        pytest.raises(ServerError),
    ):
        client.status()
    [span] = wait_for(exporter, 1)
    assert [event.name for event in span.events] == ["retry", "retry"]
    assert span.attributes["error.type"] == "UNAVAILABLE"


def test_no_request_is_current_outside_of_one(server):
    post(server, {"instances": ["a"]})
    assert current() is None
