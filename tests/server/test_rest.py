"""The Python server's RESTful API: the same answers as over gRPC, as JSON."""

import base64
import gzip
import http.client
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.servers import (
    CALL_SECONDS,
    DIM,
    MIXED_TEXTS,
    VERSION,
    free_port,
    predict_request,
    running_server,
)
from tensorflow_serving.apis import prediction_service_pb2_grpc

from simcse_tf.client import Client
from simcse_tf.server import json_predict

PREDICT = "/v1/models/simcse:predict"


@pytest.fixture(scope="module")
def rest_port():
    return free_port()


@pytest.fixture(scope="module")
def server(base_path, rest_port):
    with running_server(base_path, "--rest_api_port", str(rest_port)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with Client(server.target, timeout=CALL_SECONDS) as client:
        yield client


def call(port, method, path, body=None, headers=None) -> SimpleNamespace:
    """One HTTP request; the answer's status, type, text and value."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    kind = response.headers["Content-Type"]
    return SimpleNamespace(
        status=response.status, kind=kind, text=text, value=json.loads(text)
    )


@pytest.fixture(scope="module")
def ask(server, rest_port):
    """Sends a value as JSON, or bytes as they are; returns the answer."""

    def ask(body, path=PREDICT, **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return call(rest_port, "POST", path, body, headers)

    return ask


@pytest.fixture(scope="module")
def get(server, rest_port):
    return lambda path: call(rest_port, "GET", path)


def as_json(text: bytes):
    """A string where the text is one, else its bytes in base64."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(text).decode()}


JSON_TEXTS = [as_json(text) for text in MIXED_TEXTS]


@pytest.mark.slow
def test_rest_address_is_announced_on_a_line_of_its_own(server, base_path, rest_port):
    assert server.announcement == (
        f"Serving simcse version 3 from {base_path} at {server.target}"
    )
    second_line = server.process.stdout.readline()
    assert second_line == f"REST at 127.0.0.1:{rest_port}\n"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"instances": JSON_TEXTS}, "predictions"),
        ({"instances": [{"text": text} for text in JSON_TEXTS]}, "predictions"),
        ({"inputs": JSON_TEXTS}, "outputs"),
        ({"inputs": {"text": JSON_TEXTS}}, "outputs"),
    ],
    ids=["rows", "rows of objects", "column", "columns"],
)
def test_embeddings_equal_those_over_grpc(ask, client, body, key):
    answer = ask({"signature_name": "serving_default", **body})
    assert (answer.status, answer.kind) == (200, "application/json")
    assert answer.value.keys() == {key}
    embeddings = np.array(answer.value[key], np.float32)
    np.testing.assert_array_equal(embeddings, client.encode(MIXED_TEXTS))


@pytest.mark.parametrize("format_", ["rows", "columns"])
def test_similarities_equal_those_over_grpc(ask, client, format_):
    columns = {"text_a": JSON_TEXTS, "text_b": JSON_TEXTS[::-1]}
    rows = [{"text_a": a, "text_b": b} for a, b in zip(*columns.values(), strict=True)]
    body = {"rows": {"instances": rows}, "columns": {"inputs": columns}}[format_]
    answer = ask({"signature_name": "similarity", **body})
    assert answer.status == 200, answer.text
    [scores] = answer.value.values()
    np.testing.assert_array_equal(
        np.array(scores, np.float32), client.similarity(MIXED_TEXTS, MIXED_TEXTS[::-1])
    )


def test_everything_may_be_in_base64(ask, client):
    encoded = [{"b64": base64.b64encode(text).decode()} for text in MIXED_TEXTS]
    expected = client.encode(MIXED_TEXTS).tolist()
    for body in (
        {"instances": encoded},
        {"instances": [{"text": text} for text in encoded]},
        {"inputs": encoded},
    ):
        [embeddings] = ask(body).value.values()
        np.testing.assert_array_equal(np.array(embeddings, np.float32), expected)


def test_base64_does_without_padding(ask):
    padded, bare = ({"b64": text} for text in ("YQ==", "YQ"))
    answer = ask({"instances": [padded, bare, "a"]}).value["predictions"]
    assert answer[0] == answer[1] == answer[2]


def test_bytes_that_are_not_utf_8_reach_the_model(ask, client):
    answer = ask(b'{"instances": ["\xff\xfe not UTF-8 \x80"]}')
    expected = client.encode([b"\xff\xfe not UTF-8 \x80"])
    predictions = np.array(answer.value["predictions"], np.float32)
    np.testing.assert_array_equal(predictions, expected)


def test_floats_are_written_with_the_fewest_digits(ask, client):
    answer = ask({"inputs": JSON_TEXTS})
    digits = json.loads(answer.text, parse_float=str)["outputs"]
    assert digits == client.encode(MIXED_TEXTS).astype(str).tolist()


def test_several_outputs_are_written_by_name(ask):
    body = {"signature_name": "lengths", "instances": ["é", "ab"]}
    assert ask(body).value == {
        "predictions": [{"bytes": 2, "characters": 1}, {"bytes": 2, "characters": 2}]
    }
    body = {"signature_name": "lengths", "inputs": ["é", "abc"]}
    assert ask(body).value == {"outputs": {"bytes": [2, 3], "characters": [1, 3]}}


def test_no_texts_give_no_embeddings(ask):
    assert ask({"inputs": []}).value == {"outputs": []}
    assert ask({"inputs": {"text": []}}).value == {"outputs": []}


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/models/simcse/versions/{VERSION}:predict",
        "/V1/Models/simcse:predict",
        "/v1/models/%73imcse:predict",
    ],
)
def test_model_is_found_by(ask, path):
    assert ask({"instances": ["a"]}, path).status == 200


def test_byte_order_mark_is_skipped(ask):
    assert ask(b'\xef\xbb\xbf{"instances": ["a"]}').status == 200


def test_body_may_be_compressed(ask):
    body = gzip.compress(b'{"instances": ["a"]}')
    headers = {"Content-Encoding": "gzip"}
    assert ask(body, **headers).status == 200
    answer = ask(b"not compressed", **headers)
    assert answer.status == 400
    assert "request body" in answer.value["error"]


def test_one_request_may_hold_a_whole_batch_of_long_texts(ask, client):
    texts = [f"sentence number {i} " * 2_500 for i in range(64)]  # about 3 MB
    answer = ask({"instances": texts})
    predictions = np.array(answer.value["predictions"], np.float32)
    np.testing.assert_array_equal(predictions, client.encode(texts))


def test_status_is_answered_while_json_is_read_and_written(ask, get):
    texts = [f"sentence number {i} " * 6_500 for i in range(64)]
    body = json.dumps({"instances": texts}).encode()  # about 8 MB
    running = threading.Thread(target=ask, args=(body,))
    running.start()
    longest = 0.0
    while running.is_alive():
        start = time.monotonic()
        assert get("/v1/models/simcse").status == 200
        longest = max(longest, time.monotonic() - start)
    assert longest < 1.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["JSON Parse error"]),
        (b'{"instances": ["a"]', ["JSON Parse error"]),
        (b"[" * 100_000, ["JSON Parse error"]),
        (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", ["text"]),
        (["a"], ["expected an object, received a list"]),
        ({}, ["'instances'", "'inputs'"]),
        ({"instances": ["a"], "inputs": ["a"]}, ["exactly one"]),
        ({"instances": []}, ["'instances'", "an empty list"]),
        ({"instances": "a"}, ["'instances'", "a string"]),
        ({"instances": ["a"], "signature_name": 3}, ["'signature_name'", "a number"]),
        ({"instances": ["a"], "signature_name": None}, ["'signature_name'", "null"]),
        ({"instances": ["a"], "signature_name": "rank"}, ['"rank" not found']),
        ({"instances": ["a"], "signature_name": "\ud83c"}, ["not found"]),
        ({"instances": [1.5]}, ['"text"', "expected a string", "a number"]),
        ({"instances": ["a", None]}, ['"text"', "received null"]),
        ({"instances": ["a", True]}, ['"text"', "received true"]),
        ({"instances": ["\ud83c"]}, ['"text"', "surrogate"]),
        ({"instances": [{"b64": "?"}]}, ['"text"', "base64"]),
        ({"instances": [{"b64": 1}]}, ['"text"', "an object"]),
        ({"instances": ["a", ["b"]]}, ['"text"', "differ"]),
        ({"instances": [["a"], ["b", "c"]]}, ['"text"', "differ"]),
        ({"instances": [["a"], ["b"]]}, ["shape (None,)", "shape (2, 1)"]),
        ({"instances": ["a", {"text": "b"}]}, ["instance 0", "a string"]),
        ({"instances": [{"text": "a"}, {}]}, ["instance 1", "['text']", "[]"]),
        ({"instances": [{"texts": "a"}]}, ["instance 0", "['texts']"]),
        ({"inputs": "a"}, ["shape (None,)", "shape ()"]),
        ({"inputs": {}}, ["missing {text}"]),
        ({"inputs": {"text": ["a"], "lang": ["en"]}}, ["extra {lang}"]),
        ({"inputs": ["a"], "signature_name": "similarity"}, ["text_a", "text_b"]),
        ({"instances": ["a"], "signature_name": "similarity"}, ["text_a", "text_b"]),
        ({"inputs": "1", "signature_name": "busy"}, ["expected float64", "a string"]),
        ({"inputs": True, "signature_name": "busy"}, ["float64", "true"]),
        ({"inputs": [1, 2], "signature_name": "half"}, ["shape ()", "shape (2,)"]),
        ({"instances": [0.1], "signature_name": "half"}, ["shape ()", "shape (1,)"]),
        ({"inputs": 0.1, "signature_name": "half"}, ["at least one dimension"]),
        ({"instances": ["a"] * 65}, ["65", "maximum input batch size 64"]),
    ],
)
def test_body_that_does_not_fit_is_refused(ask, body, words):
    answer = ask(body)
    assert (answer.status, answer.kind) == (400, "application/json")
    assert answer.value.keys() == {"error"}
    assert all(word in answer.value["error"] for word in words), answer.text


def test_failure_in_the_graph_keeps_its_code_and_message(ask, tmp_path):
    path = str(tmp_path / "nothing")
    answer = ask({"signature_name": "read", "inputs": [path]})
    assert answer.status == 404
    assert answer.value["error"].startswith(path)
    columns = {"text_a": ["a"] * 2, "text_b": ["b"] * 3}
    assert ask({"signature_name": "similarity", "inputs": columns}).status == 400


def test_other_strings_than_texts_are_answered(ask, tmp_path):
    (tmp_path / "file").write_bytes("é\xff".encode("latin-1") + "é".encode())
    body = {"signature_name": "read", "inputs": [str(tmp_path / "file")]}
    assert ask(body).value == {"outputs": ["\ufffd\ufffdé"]}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/bert:predict", 404, "Latest(bert)"),
        ("/v1/models/simcse/versions/2:predict", 404, "Specific(simcse, 2)"),
        (f"/v1/models/simcse/versions/{2**63}:predict", 400, "Failed to convert"),
        ("/v1/models/simcse/versions/x:predict", 400, "Malformed request: POST"),
        ("/v1/models/simcse/labels/stable:predict", 400, "stable"),
        ("/v1/models/bert:classify", 404, "Latest(bert)"),
        ("/v1/models/simcse", 400, "Malformed request: POST"),
        ("/v2/models/simcse:predict", 404, "/v2/models"),
    ],
)
def test_wrong_address_is_refused(ask, path, status, words):
    answer = ask({"instances": ["a"]}, path)
    assert (answer.status, answer.kind) == (status, "application/json")
    assert words in answer.value["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/bert", 404),
        ("/v1/models/bert/metadata", 404),
        ("/v1/models/simcse/versions/2", 404),
        ("/v1/models/simcse/versions/2/metadata", 404),
        ("/v1/models/simcse/labels/stable", 400),
        ("/v1/models/simcse/labels/stable/metadata", 400),
        (PREDICT, 400),
        ("/", 404),
    ],
)
def test_what_is_not_there_is_not_described(get, path, status):
    answer = get(path)
    assert answer.status == status
    assert answer.value.keys() == {"error"}


@pytest.mark.parametrize("version", ["", f"/versions/{VERSION}"])
def test_status_of_the_loaded_version_is_available(get, version):
    answer = get(f"/v1/models/simcse{version}")
    assert (answer.status, answer.kind) == (200, "application/json")
    assert answer.value["model_version_status"] == [
        {
            "version": str(VERSION),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]
    # The path without a version is OpenAI's, too, and has its fields beside.
    assert ("id" in answer.value) == (not version)


@pytest.mark.parametrize("version", ["", f"/versions/{VERSION}"])
def test_metadata_holds_the_signatures_of_the_saved_model(get, version):
    answer = get(f"/v1/models/simcse{version}/metadata")
    assert (answer.status, answer.kind) == (200, "application/json")
    spec = answer.value["model_spec"]
    assert (spec["name"], spec["version"]) == ("simcse", str(VERSION))
    signatures = answer.value["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "similarity"} <= signatures.keys()
    signature = signatures["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    assert signature["outputs"]["embedding"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": str(DIM), "name": ""}],
        "unknown_rank": False,
    }


def test_status_is_answered_while_every_thread_is_busy(ask, get):
    body = {"signature_name": "busy", "inputs": [0.2]}
    with ThreadPoolExecutor(16) as threads:
        running = [threads.submit(ask, body) for _ in range(16)]
        start = time.monotonic()
        assert get("/v1/models/simcse").status == 200
        assert time.monotonic() - start < 1.0
        assert all(call.result().status == 200 for call in running)


@pytest.mark.slow
def test_stop_signal_lets_running_requests_finish(base_path):
    port = free_port()
    body = json.dumps({"signature_name": "busy", "inputs": [1.0]})
    with (
        running_server(base_path, "--rest_api_port", str(port)) as server,
        ThreadPoolExecutor(1) as threads,
        grpc.insecure_channel(server.target, [("grpc.enable_http_proxy", 0)]) as grpc_,
    ):
        give_up_in_the_middle(port)
        assert call(port, "POST", PREDICT, '{"instances": ["a"]}').status == 200
        stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc_)
        request = predict_request("busy", seconds=np.array([1.0]))
        over_grpc = stub.Predict.future(request, timeout=CALL_SECONDS)
        over_rest = threads.submit(call, port, "POST", PREDICT, body)
        time.sleep(0.4)
        server.process.send_signal(signal.SIGTERM)
        assert over_rest.result().value["outputs"][0] >= 1.0
        assert tf.make_ndarray(over_grpc.result().outputs["passed"]) >= 1.0
        assert server.process.wait(timeout=10) == 0
        assert server.process.stderr.read() == ""


def give_up_in_the_middle(port: int) -> None:
    """Sends half of a request, then something that is none, each time leaving."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n".encode()
    for sent in (head + b'{"instances"', b"\x16\x03\x01 not HTTP\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
            time.sleep(0.1)


def test_every_float_comes_back():
    values = [0.1, 1.0, -0.0, 1e-45, 3.4028235e38, 1 / 3, np.nan, np.inf, -np.inf]
    text = json_predict.to_json({"y": np.array(values, np.float32)}, True)
    returned = np.array(json.loads(text)["predictions"], np.float32)
    assert returned.tobytes() == np.array(values, np.float32).tobytes()
    assert text.startswith('{"predictions": [0.1, 1.0, -0.0, 1e-45, ')


def test_outputs_named_bytes_answer_in_base64():
    outputs = {
        "image_bytes": np.array([b"\xff", b""], object),
        "flag": np.array([True] * 2),
    }
    assert json.loads(json_predict.to_json(outputs, True)) == {
        "predictions": [
            {"image_bytes": {"b64": "/w=="}, "flag": True},
            {"image_bytes": {"b64": ""}, "flag": True},
        ]
    }


@pytest.mark.parametrize("shapes", [[()], [(2,), (3,)], [(2,), ()]])
def test_outputs_without_rows_are_refused_in_row_format(shapes):
    outputs = {f"y{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="'inputs'"):
        json_predict.to_json(outputs, True)
    assert json.loads(json_predict.to_json(outputs, False))["outputs"] is not None
