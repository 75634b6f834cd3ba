"""Request ids and the log: what it says of a request, and what nobody can put there."""

import contextlib
import http.client
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from support.servers import (
    CALL_SECONDS,
    VERSION,
    predict_request,
    server_in_thread,
)

from simcse_tf.client import Client, Retry, ServerError
from simcse_tf.core import logs
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.observed_requests import observing_middleware
from simcse_tf.server.security import token_middleware
from simcse_tf.server.servable import Servable

PREDICT = "/tensorflow.serving.PredictionService/Predict"
REST = "/v1/models/simcse:predict"
TOKEN = "secret"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
SENTENCE = "A man is playing a guitar."


@pytest.fixture(scope="module", params=["batched", "unbatched"])
def server(base_path, request):
    path = base_path / str(VERSION)
    batching = BatchingParameters() if request.param == "batched" else None
    with ThreadPoolExecutor(1) as executor:
        servable = Servable(VERSION, path, batching, executor)
        with server_in_thread(
            servable,
            token=TOKEN,
            log_requests=True,
            middlewares=[observing_middleware(log=True), token_middleware(TOKEN)],
        ) as address:
            yield address


@pytest.fixture
def lines(caplog):
    """The access log's lines so far, as both formats have them."""
    caplog.set_level(logging.INFO, "simcse_tf.access")

    class Kept(logging.Handler):
        def __init__(self):
            super().__init__()
            self.text, self.json = [], []

        def emit(self, record):
            self.text.append(logs.TextLines().format(record))
            self.json.append(logs.JsonLines().format(record))

        def wait_for(self, count):
            """A refusal over gRPC is sent before its line is written."""
            end = time.monotonic() + CALL_SECONDS
            while len(self.json) < count and time.monotonic() < end:
                time.sleep(0.01)

    kept = Kept()
    logger = logging.getLogger("simcse_tf.access")
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)


def post(server, document, path=REST, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
    with contextlib.closing(connection):
        body = json.dumps(document)
        connection.request("POST", path, body, AUTHORIZED | headers)
        response = connection.getresponse()
        response.read()
        return response


def predict(server, *metadata, token=TOKEN, **inputs):
    """Calls over gRPC; the code and the request's id in the trailers."""
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(PREDICT)
        request = predict_request(**inputs).SerializeToString()
        future = call.future(
            request,
            timeout=CALL_SECONDS,
            metadata=[("authorization", f"Bearer {token}"), *metadata],
        )
        return future.code(), dict(future.trailing_metadata())["x-request-id"]


def test_a_client_may_name_its_request(server, lines):
    response = post(server, {"instances": ["a"]}, **{"x-request-id": "order-17"})
    assert response.headers["x-request-id"] == "order-17"
    assert predict(server, ("x-request-id", "order-18"), text=[b"a"]) == (
        grpc.StatusCode.OK,
        "order-18",
    )
    assert [json.loads(it)["request_id"] for it in lines.json] == [
        "order-17",
        "order-18",
    ]
    assert lines.text[0].endswith(" [request order-17]")


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "a,b", '"', "é"], ids=range(6))
def test_a_name_that_is_not_sane_is_replaced(server, name):
    asked = post(
        server, {"instances": ["a"]}, **{"x-request-id": name.encode("latin-1")}
    )
    given = asked.headers["x-request-id"]
    assert len(given) == 32
    assert given != post(server, {"instances": ["a"]}).headers["x-request-id"]


def test_the_access_log_has_sizes_and_no_texts(server, lines):
    post(server, {"instances": [SENTENCE, "No."]})
    predict(server, text=[SENTENCE.encode()])
    rest, rpc = map(json.loads, lines.json)
    assert rest["path"] == REST
    expected = {"method": "POST", "status": 200, "texts": 2, "model": "simcse"}
    assert expected.items() <= rest.items()
    assert rest["received_bytes"] == len(json.dumps({"instances": [SENTENCE, "No."]}))
    expected = {"rpc": PREDICT[1:], "status": "OK", "texts": 1, "version": VERSION}
    assert expected.items() <= rpc.items()
    for line in rest, rpc:
        assert line["sent_bytes"] > 32
        assert 0 < line["milliseconds"] < 1000 * CALL_SECONDS
        assert line["batch_texts"] == line["texts"]
        assert line["time"].endswith("Z")
        assert line["level"] == "INFO"
        assert line["logger"] == "simcse_tf.access"
    for line in lines.text + lines.json:
        assert "guitar" not in line
        assert TOKEN not in line


def test_refusals_have_ids_and_lines_too(server, lines):
    code, name = predict(server, token="wrong", text=[b"a"])
    assert code is grpc.StatusCode.UNAUTHENTICATED
    refused = post(server, {}, authorization="Bearer wrong")
    missing = post(server, {}, path="/v1/models/none:predict")
    wrong = predict(server, wrong=[b"a"])
    lines.wait_for(4)
    statuses = [(it["request_id"], it["status"]) for it in map(json.loads, lines.json)]
    assert statuses == [
        (name, "UNAUTHENTICATED"),
        (refused.headers["x-request-id"], 401),
        (missing.headers["x-request-id"], 404),
        (wrong[1], "INVALID_ARGUMENT"),
    ]


def test_an_error_of_the_client_names_its_request(server, lines):
    with (
        Client(server.target, token=TOKEN, retry=Retry(attempts=1)) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(["a"], "int8")  # which the model lacks
    lines.wait_for(1)
    assert json.loads(lines.json[0])["request_id"] == caught.value.request_id
    assert str(caught.value).endswith(f"[request {caught.value.request_id}]")


def test_the_trace_of_a_client_stands_in_the_log(server, lines):
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    post(server, {"instances": ["a"]}, traceparent=f"00-{trace}-{span}-01")
    [line] = map(json.loads, lines.json)
    assert (line["trace_id"], line["span_id"]) == (trace, span)


def test_a_long_path_is_cut_and_its_query_left_out(server, lines):
    post(server, {}, path=f"/v1/{'x' * 1000}")
    post(server, {}, path=f"{REST}?text=guitar")
    paths = [json.loads(it)["path"] for it in lines.json]
    assert paths == [f"/v1/{'x' * 196}", REST]
