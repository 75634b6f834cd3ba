"""What every server of an export of simcse_tf answers, over gRPC and over REST.

Black box, and about nothing that one server does and another need not: codes, not
messages. Without --target the Python server is asked; `pytest tests/serving --target
HOST:PORT --rest-target HOST:PORT` asks a TF Serving that runs with the configuration in
serving/.
"""

import base64
import http.client
import json
import re
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.servers import CALL_SECONDS, open_stubs, predict_request
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
)

from simcse_tf.client import Client

# Its own server needs an export of a real model, which takes seconds.
pytestmark = pytest.mark.slow

PROBE = Path(__file__).parents[2] / "serving" / "probe.sh"
METRICS_PATH = "/monitoring/prometheus/metrics"
TEXTS = [
    "A man is playing a guitar.",
    "Two dogs run through the snow.",
    "The committee rejected the proposal on Monday, after a debate that went on "
    "until the last train had left and nobody remembered how it had begun.",
    "Rain.",
    "naïve façade",
    "She wrote a long letter to her brother in Lyon.",
]
ODD_TEXTS = {
    "empty": b"",
    "blank": b" \t\n\r ",
    "invalid UTF-8": b"\xff\xfe not UTF-8 \x80",
    "half a surrogate pair": b"\xed\xa0\xbc",
    "NUL": b"ends in NUL\x00\x00",
    "emoji": "🎸👩‍👩‍👧🇫🇷".encode(),
    "right to left": "مرحبا بالعالم".encode(),
    "one long word": b"x" * 10_000,
    "many words": b"word " * 2_000,
    "special tokens": b"[CLS] [SEP] [PAD] [MASK]",
}
# Sums in another order: batches of other sizes, other lengths to pad to.
ATOL = 2e-5

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
NO_VERSION = 2**62
NO_LABEL = "no-such-label"


@pytest.fixture(scope="session")
def stubs(target):
    with open_stubs(target.grpc) as stubs:
        yield stubs


@pytest.fixture(scope="session")
def predict(target, stubs):
    """Asks for a prediction; the response."""

    def predict(
        signature="", *, name=target.model, label=None, timeout=CALL_SECONDS, **rest
    ):
        request = predict_request(signature, name, **rest)
        if label is not None:
            request.model_spec.version_label = label
        return stubs.predictions.Predict(request, timeout=timeout)

    return predict


@pytest.fixture(scope="session")
def embed(predict):
    """Texts to embeddings, in one request."""

    def embed(texts, **kwargs):
        response = predict(text=np.array(texts, object), **kwargs)
        return tf.make_ndarray(response.outputs["embedding"])

    return embed


@pytest.fixture(scope="session")
def versions(target, stubs):
    """The versions that are AVAILABLE, newest first."""
    response = stubs.models.GetModelStatus(
        about(get_model_status_pb2.GetModelStatusRequest, target.model),
        timeout=CALL_SECONDS,
    )
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    found = [it for it in response.model_version_status if it.state == available]
    assert all(it.status.error_code == 0 for it in found)
    return sorted((it.version for it in found), reverse=True)


def about(kind, name, version=None, label=None, **fields):
    """A request for status or metadata."""
    request = kind(**fields)
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def code_of(call, *args, **kwargs) -> grpc.StatusCode:
    kwargs.setdefault("timeout", CALL_SECONDS)
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code()


def strings(count):
    return [f"text number {i}" for i in range(count)]


# Answers


def test_signatures_are_those_of_the_export(target, stubs):
    request = about(
        get_model_metadata_pb2.GetModelMetadataRequest,
        target.model,
        metadata_field=["signature_def"],
    )
    response = stubs.predictions.GetModelMetadata(request, timeout=CALL_SECONDS)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.name == target.model
    default = signatures.signature_def["serving_default"]
    check_tensors(default.inputs, {"text": (types_pb2.DT_STRING, 1)})
    check_tensors(default.outputs, {"embedding": (types_pb2.DT_FLOAT, 2)})
    pair = signatures.signature_def["similarity"]
    texts = dict.fromkeys(("text_a", "text_b"), (types_pb2.DT_STRING, 1))
    check_tensors(pair.inputs, texts)
    check_tensors(pair.outputs, {"cosine_similarity": (types_pb2.DT_FLOAT, 1)})
    counted = signatures.signature_def["serving_tokens"]
    check_tensors(counted.inputs, {"text": (types_pb2.DT_STRING, 1)})
    outputs = {
        "embedding": (types_pb2.DT_FLOAT, 2),
        "tokens": (types_pb2.DT_INT32, 1),
        "truncated": (types_pb2.DT_BOOL, 1),
    }
    check_tensors(counted.outputs, outputs)
    for signature in (default, pair, counted):
        assert signature.method_name == "tensorflow/serving/predict"


def check_tensors(tensors, expected):
    assert {
        name: (info.dtype, len(info.tensor_shape.dim)) for name, info in tensors.items()
    } == expected
    # Any number of texts.
    assert all(info.tensor_shape.dim[0].size == -1 for info in tensors.values())


def test_embeddings_are_float32_of_unit_length(embed):
    embeddings = embed([*TEXTS, *ODD_TEXTS.values()])
    assert embeddings.dtype == np.float32
    assert embeddings.shape[0] == len(TEXTS) + len(ODD_TEXTS)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_order_is_kept(embed):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    permuted = embed([TEXTS[i] for i in order])
    np.testing.assert_allclose(permuted, embed(TEXTS)[order], atol=ATOL)


def test_different_texts_embed_differently_and_equal_ones_alike(embed):
    embeddings = embed([*TEXTS, TEXTS[0]])
    np.testing.assert_allclose(embeddings[0], embeddings[-1], atol=ATOL)
    distances = np.linalg.norm(embeddings[:-1, None] - embeddings[:-1], axis=-1)
    assert distances[~np.eye(len(TEXTS), dtype=bool)].min() > 5 * ATOL


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
def test_odd_text_embeds_the_same_alone_and_among_others(embed, text):
    [alone] = embed([text])
    among = embed([TEXTS[2], text, *TEXTS])[1]
    np.testing.assert_allclose(alone, among, atol=ATOL)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (b"\xff not UTF-8", "\ufffd not UTF-8".encode()),
        (b" \t\n ", b""),
        (b"word " * 2_000, b"word " * 3_000),
    ],
    ids=["replacement character", "blank as empty", "cut at the maximum length"],
)
def test_texts_that_are_defined_to_be_the_same(embed, text, same):
    first, second = embed([text, same])
    np.testing.assert_allclose(first, second, atol=ATOL)


def test_embedding_does_not_depend_on_the_batch(embed):
    together = embed(TEXTS)
    alone = np.concatenate([embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=ATOL)


def test_similarity_is_the_dot_product_of_embeddings(predict, embed):
    a, b = [*TEXTS, ""], [*TEXTS[::-1], "not empty"]
    response = predict("similarity", text_a=a, text_b=b)
    cosine = tf.make_ndarray(response.outputs["cosine_similarity"])
    np.testing.assert_allclose(cosine, np.sum(embed(a) * embed(b), 1), atol=ATOL)


def test_largest_batch_is_answered(target, embed):
    texts = strings(target.max_batch_size or 64)
    embeddings = embed(texts)
    np.testing.assert_allclose(
        embeddings[[0, -1]], embed(texts[:: len(texts) - 1]), atol=ATOL
    )


def test_many_clients_at_once_get_their_own_answers(embed):
    texts = strings(96)
    with ThreadPoolExecutor(32) as threads:
        received = np.concatenate(list(threads.map(lambda it: embed([it]), texts)))
    np.testing.assert_allclose(received[:32], embed(texts[:32]), atol=ATOL)
    np.testing.assert_allclose(received[-32:], embed(texts[-32:]), atol=ATOL)


def test_the_projects_client_gets_the_same_answers(target, embed):
    with Client(target.grpc, model=target.model) as client:
        np.testing.assert_allclose(client.encode(TEXTS), embed(TEXTS), atol=ATOL)


def test_tokens_are_counted_of_each_text(predict, embed):
    texts = [*TEXTS, *ODD_TEXTS.values()]
    outputs = predict("serving_tokens", text=np.array(texts, object)).outputs
    found = {name: tf.make_ndarray(it) for name, it in outputs.items()}
    np.testing.assert_allclose(found["embedding"], embed(texts), atol=ATOL)
    tokens = dict(zip([*TEXTS, *ODD_TEXTS], found["tokens"].tolist(), strict=True))
    assert tokens["empty"] == tokens["blank"] < tokens["Rain."]
    # Where clients without TensorFlow look.
    assert [*outputs["tokens"].int_val] == found["tokens"].tolist()
    assert [*outputs["truncated"].bool_val] == found["truncated"].tolist()
    limit = found["tokens"].max()
    np.testing.assert_array_equal(found["tokens"][found["truncated"]], limit)
    assert found["truncated"][len(TEXTS) + [*ODD_TEXTS].index("many words")]


def test_counts_of_an_empty_batch_are_empty(stubs, target):
    def request(texts):
        texts = np.array(texts, object)
        proto = tf.make_tensor_proto(texts, tf.string)
        return predict_request("serving_tokens", target.model, text=proto)

    empty = stubs.predictions.Predict.future(request([]), timeout=CALL_SECONDS)
    # A server that batches may let it wait for company.
    stubs.predictions.Predict(request(["a"]), timeout=CALL_SECONDS)
    shapes = {
        name: [dim.size for dim in it.tensor_shape.dim]
        for name, it in empty.result().outputs.items()
    }
    dim = shapes["embedding"][1]
    assert shapes == {"embedding": [0, dim], "tokens": [0], "truncated": [0]}


# Neighbours, where the export holds an index


@pytest.fixture(scope="session")
def search(target, predict):
    """Texts, and a number for each, to hits."""
    with Client(target.grpc, model=target.model) as client:
        if "search" not in client.metadata():
            pytest.skip("the export holds no index")

    def search(texts, k):
        response = predict("search", text=texts, k=np.array(k, np.int32))
        return {name: tf.make_ndarray(it) for name, it in response.outputs.items()}

    return search


def test_each_text_gets_its_own_number_of_hits(search):
    found = search(TEXTS, [1, 3, 2, 1, 3, 0])
    assert {name: it.shape for name, it in found.items()}.items() >= {
        ("ids", (6, 3)),
        ("texts", (6, 3)),
        ("cosines", (6, 3)),
    }
    hits = found["cosines"] > -2
    assert hits.sum(axis=1).tolist() == [1, 3, 2, 1, 3, 0]
    assert (found["ids"][~hits] == b"").all()
    falling = -np.diff(np.where(hits, found["cosines"], -2), axis=1)
    assert (falling >= 0).all()


def test_nothing_is_nearer_to_a_text_of_the_index_than_itself(search):
    [[text]] = search(["A text."], [1])["texts"]
    found = search([text, "Another text."], [2, 2])
    np.testing.assert_allclose(found["cosines"][0, 0], 1, atol=ATOL)


def test_cosines_are_those_of_the_embeddings(search, embed):
    found = search(TEXTS[:2], [3, 3])
    for query, texts, cosines in zip(
        embed(TEXTS[:2]), found["texts"], found["cosines"], strict=True
    ):
        np.testing.assert_allclose(embed([*texts]) @ query, cosines, atol=ATOL)


def test_hits_do_not_depend_on_what_is_merged(search):
    texts = strings(48)
    ks = [1 + n % 5 for n in range(len(texts))]
    with ThreadPoolExecutor(32) as threads:
        found = list(threads.map(lambda text, k: search([text], [k]), texts, ks))
    for number in (0, 13, 47):
        alone = search([texts[number]], [ks[number]])
        # Wider, if it was merged with a request for more.
        merged = found[number]["cosines"]
        np.testing.assert_allclose(merged[:, : ks[number]], alone["cosines"], atol=ATOL)
        assert (merged[:, ks[number] :] == -2).all()


def test_rest_gives_the_hits_of_grpc(search, ask):
    found = search(TEXTS[:2], [2, 1])
    rows = [{"text": text, "k": k} for text, k in zip(TEXTS, [2, 1], strict=False)]
    body = {"signature_name": "search", "instances": rows}
    status, answer = ask(body)
    assert status == 200
    for row, prediction in enumerate(answer["predictions"]):
        assert [it.encode() for it in prediction["texts"]] == [*found["texts"][row]]
        np.testing.assert_allclose(
            prediction["cosines"], found["cosines"][row], atol=ATOL
        )


def test_ks_that_do_not_fit_the_texts_are_refused(target, stubs):
    for k in (np.array([1], np.int32), np.int32(1), np.array([1, 1], np.int64)):
        request = predict_request("search", target.model, text=["a", "b"], k=k)
        assert code_of(stubs.predictions.Predict, request) == INVALID


# Which model answers


def test_a_version_is_available(versions):
    assert versions


def test_newest_version_answers_by_default(target, predict, versions):
    spec = predict(text=["a"]).model_spec
    assert (spec.name, spec.version.value) == (target.model, versions[0])
    assert spec.signature_name in ("", "serving_default")


def test_every_available_version_answers_when_addressed(
    predict, versions, stubs, target
):
    for version in versions:
        response = predict(version=version, text=["a"])
        assert response.model_spec.version.value == version
        request = about(
            get_model_status_pb2.GetModelStatusRequest, target.model, version
        )
        status = stubs.models.GetModelStatus(request, timeout=CALL_SECONDS)
        assert [it.version for it in status.model_version_status] == [version]


@pytest.fixture
def labels(target):
    if not target.labels:
        pytest.skip("the server has no labels (--labels '')")
    return target.labels


def test_a_label_addresses_one_of_the_versions(labels, predict, versions):
    for label in labels:
        response = predict(label=label, text=["a"])
        assert response.model_spec.version.value in versions


def test_output_filter_names_the_outputs_wanted(predict):
    response = predict(outputs=["embedding"], text=["a"])
    assert set(response.outputs) == {"embedding"}


# Refusals


def tensor(dtype, shape, **values):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"text": [1.0]}, INVALID),
        ({"text": [1]}, INVALID),
        ({"text": [True]}, INVALID),
        ({}, INVALID),
        ({"texts": ["a"]}, INVALID),
        ({"text": ["a"], "language": ["en"]}, INVALID),
        ({"text": "a"}, INVALID),
        ({"text": [["a"], ["b"]]}, INVALID),
        ({"signature": "similarity", "text_a": ["a"]}, INVALID),
        ({"signature": "similarity", "text": ["a"]}, INVALID),
        (
            {"signature": "similarity", "text_a": ["a"] * 3, "text_b": ["b"] * 2},
            INVALID,
        ),
        ({"signature": "serving_tokens", "text": [1]}, INVALID),
        ({"signature": "serving_tokens", "text": "a"}, INVALID),
        ({"outputs": ["no-such-output"], "text": ["a"]}, INVALID),
        ({"signature": "nope", "text": ["a"]}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"name": "no-such-model", "text": ["a"]}, NOT_FOUND),
        ({"version": NO_VERSION, "text": ["a"]}, NOT_FOUND),
        ({"label": NO_LABEL, "text": ["a"]}, INVALID),
        ({"name": "", "text": ["a"]}, INVALID),
        ({"text": tensor(types_pb2.DT_STRING, [2], tensor_content=b"\xff")}, INVALID),
    ],
    ids=[
        "floats for texts",
        "integers for texts",
        "booleans for texts",
        "no input",
        "misnamed input",
        "extra input",
        "rank 0",
        "rank 2",
        "one input of two",
        "another signature's input",
        "inputs of different lengths",
        "integers for texts to count",
        "rank 0 for texts to count",
        "unknown output",
        "unknown signature",
        "unknown model",
        "unknown version",
        "unknown label",
        "no model name",
        "malformed tensor",
    ],
)
def test_wrong_request_is_refused_with(predict, arguments, code):
    assert code_of(predict, **arguments) == code
    assert predict(text=["a"]).outputs


def test_batch_over_the_maximum_is_refused(target, predict):
    if not target.max_batch_size:
        pytest.skip("the server does not batch (--max-batch-size 0)")
    texts = strings(target.max_batch_size + 1)
    assert code_of(predict, text=texts) == INVALID
    assert code_of(predict, "similarity", text_a=texts, text_b=texts) == INVALID


def test_request_that_is_none_is_refused(stubs, predict):
    method = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    # gRPC's own code where the server's library parses; the server's where it does.
    assert code_of(method, b"\xff\xff\xff") in (grpc.StatusCode.INTERNAL, INVALID)
    assert code_of(method, b"") == INVALID
    assert predict(text=["a"]).outputs


def test_unknown_method_is_unimplemented(stubs):
    method = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Rank")
    assert code_of(method, b"") == grpc.StatusCode.UNIMPLEMENTED


def test_passed_deadline_is_reported_and_harms_nobody(predict, embed):
    text = np.array(["long " * 10_000] * 64, object)
    with ThreadPoolExecutor(8) as threads:
        calls = [
            threads.submit(code_of, predict, text=text, timeout=0.002) for _ in range(8)
        ]
        codes = {call.result() for call in calls}
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert embed(["a"]).shape[0] == 1


def test_status_of_what_is_not_there_is_refused(target, stubs):
    kind, call = get_model_status_pb2.GetModelStatusRequest, stubs.models.GetModelStatus
    assert code_of(call, about(kind, "no-such-model")) == NOT_FOUND
    assert code_of(call, about(kind, target.model, NO_VERSION)) == NOT_FOUND
    assert code_of(call, kind()) == INVALID


def test_metadata_of_what_is_not_there_is_refused(target, stubs):
    kind = get_model_metadata_pb2.GetModelMetadataRequest
    call, field = (
        stubs.predictions.GetModelMetadata,
        {"metadata_field": ["signature_def"]},
    )
    assert code_of(call, about(kind, "no-such-model", **field)) == NOT_FOUND
    assert code_of(call, about(kind, target.model, NO_VERSION, **field)) == NOT_FOUND
    assert code_of(call, about(kind, target.model, label=NO_LABEL, **field)) == INVALID
    assert code_of(call, about(kind, target.model)) == INVALID
    assert code_of(call, about(kind, target.model, metadata_field=["graph"])) == INVALID
    assert code_of(call, kind(**field)) == INVALID


# REST


@pytest.fixture(scope="session")
def http_call(target):
    """One HTTP request: its status, its value where it is JSON, its text."""
    if target.rest is None:
        pytest.skip("no REST address (--rest-target)")

    def http_call(method, path, body=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(target.rest, timeout=CALL_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return SimpleNamespace(
            status=response.status, kind=response.headers["Content-Type"], text=text
        )

    return http_call


@pytest.fixture(scope="session")
def ask(target, http_call):
    """Asks for a prediction; the status and the parsed answer."""

    def ask(body, where="", model=target.model):
        answer = http_call("POST", f"/v1/models/{model}{where}:predict", body)
        if answer.status == 200:
            assert answer.kind == "application/json"
            return 200, json.loads(answer.text)
        assert "error" in answer.text
        return answer.status, None

    return ask


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"instances": TEXTS}, "predictions"),
        ({"instances": [{"text": text} for text in TEXTS]}, "predictions"),
        ({"inputs": TEXTS}, "outputs"),
        ({"inputs": {"text": TEXTS}}, "outputs"),
        ({"signature_name": "serving_default", "instances": TEXTS}, "predictions"),
    ],
    ids=["rows", "rows of objects", "column", "columns", "with a signature"],
)
def test_rest_gives_the_embeddings_of_grpc(ask, embed, body, key):
    status, value = ask(body)
    assert status == 200
    assert value.keys() == {key}
    np.testing.assert_allclose(np.array(value[key]), embed(TEXTS), atol=ATOL)


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
def test_rest_takes_any_bytes_in_base64(ask, embed, text):
    encoded = {"b64": base64.b64encode(text).decode()}
    for body in (
        {"instances": [encoded]},
        {"instances": [{"text": encoded}]},
        {"inputs": {"text": [encoded]}},
    ):
        status, value = ask(body)
        assert status == 200
        np.testing.assert_allclose(*value.values(), embed([text]), atol=ATOL)


def test_rest_gives_the_similarities_of_grpc(ask, predict):
    a, b = TEXTS, TEXTS[::-1]
    response = predict("similarity", text_a=a, text_b=b)
    expected = tf.make_ndarray(response.outputs["cosine_similarity"])
    rows = [{"text_a": x, "text_b": y} for x, y in zip(a, b, strict=True)]
    for inputs in ({"instances": rows}, {"inputs": {"text_a": a, "text_b": b}}):
        status, value = ask({"signature_name": "similarity", **inputs})
        assert status == 200
        np.testing.assert_allclose(*value.values(), expected, atol=ATOL)


def test_rest_gives_the_counts_of_grpc(ask, predict):
    texts = [TEXTS[0], "word " * 2_000]
    outputs = predict("serving_tokens", text=texts).outputs
    found = {name: tf.make_ndarray(it).tolist() for name, it in outputs.items()}
    body = {"signature_name": "serving_tokens"}
    status, rows = ask({**body, "instances": texts})
    assert status == 200
    for number, row in enumerate(rows["predictions"]):
        assert row.keys() == {"embedding", "tokens", "truncated"}
        assert row["tokens"] == found["tokens"][number]
        assert row["truncated"] is found["truncated"][number]
        np.testing.assert_allclose(
            row["embedding"], found["embedding"][number], atol=ATOL
        )
    status, columns = ask({**body, "inputs": texts})
    assert status == 200
    assert columns["outputs"]["tokens"] == found["tokens"]
    assert columns["outputs"]["truncated"] == found["truncated"] == [False, True]


def test_rest_addresses_versions_and_labels(target, ask, embed, versions):
    body = {"instances": TEXTS[:1]}
    for version in versions:
        status, value = ask(body, f"/versions/{version}")
        assert status == 200
        expected = embed(TEXTS[:1], version=version)
        np.testing.assert_allclose(value["predictions"], expected, atol=ATOL)
    for label in target.labels:
        assert ask(body, f"/labels/{label}")[0] == 200


def test_rest_tells_the_status(target, http_call, versions):
    answer = http_call("GET", f"/v1/models/{target.model}")
    assert (answer.status, answer.kind) == (200, "application/json")
    statuses = json.loads(answer.text)["model_version_status"]
    available = {it["version"] for it in statuses if it["state"] == "AVAILABLE"}
    assert available == set(map(str, versions))
    for version in versions:
        path = f"/v1/models/{target.model}/versions/{version}"
        [status] = json.loads(http_call("GET", path).text)["model_version_status"]
        assert (status["version"], status["state"]) == (str(version), "AVAILABLE")
        assert status["status"]["error_code"] == "OK"


def test_rest_tells_the_signatures(target, http_call, versions):
    for where in ("", f"/versions/{versions[-1]}"):
        answer = http_call("GET", f"/v1/models/{target.model}{where}/metadata")
        assert (answer.status, answer.kind) == (200, "application/json")
        value = json.loads(answer.text)
        assert value["model_spec"]["name"] == target.model
        signatures = value["metadata"]["signature_def"]["signature_def"]
        [text] = signatures["serving_default"]["inputs"].values()
        assert text["dtype"] == "DT_STRING"
        assert text["tensor_shape"]["dim"][0]["size"] == "-1"
        assert signatures["similarity"]["inputs"].keys() == {"text_a", "text_b"}
        counted = signatures["serving_tokens"]["outputs"]
        assert {name: it["dtype"] for name, it in counted.items()} == {
            "embedding": "DT_FLOAT",
            "tokens": "DT_INT32",
            "truncated": "DT_BOOL",
        }


@pytest.mark.parametrize(
    ("body", "where", "status"),
    [
        (b"", "", 400),
        (b'{"instances": ["a"]', "", 400),
        (["a"], "", 400),
        ({}, "", 400),
        ({"instances": ["a"], "inputs": ["a"]}, "", 400),
        ({"instances": "a"}, "", 400),
        ({"instances": [1.5]}, "", 400),
        ({"instances": ["a", None]}, "", 400),
        ({"instances": [{"texts": "a"}]}, "", 400),
        ({"instances": [["a"], ["b", "c"]]}, "", 400),
        ({"instances": [{"text": "a", "language": "en"}]}, "", 400),
        ({"inputs": {"texts": ["a"]}}, "", 400),
        ({"instances": []}, "", 400),
        ({"inputs": ["a"], "signature_name": "similarity"}, "", 400),
        ({"instances": ["a"], "signature_name": "nope"}, "", 400),
        ({"instances": ["a"], "signature_name": 3}, "", 400),
        ({"instances": ["a"]}, f"/versions/{NO_VERSION}", 404),
        ({"instances": ["a"]}, f"/labels/{NO_LABEL}", 400),
        ({"instances": ["a"]}, "/versions/one", 400),
    ],
    ids=[
        "no body",
        "half a document",
        "a list",
        "an empty object",
        "rows and columns",
        "no list of rows",
        "a number for a text",
        "null for a text",
        "misnamed input",
        "rows of different lengths",
        "extra input",
        "misnamed column",
        "no rows",
        "one input of two",
        "unknown signature",
        "a number for a signature",
        "unknown version",
        "unknown label",
        "a word for a version",
    ],
)
def test_wrong_body_or_address_is_refused_with(ask, body, where, status):
    assert ask(body, where)[0] == status
    assert ask({"instances": ["a"]})[0] == 200


def test_rest_refuses_what_grpc_refuses(target, ask):
    assert ask({"instances": ["a"]}, model="no-such-model")[0] == 404
    if target.max_batch_size:
        assert ask({"instances": strings(target.max_batch_size + 1)})[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/{}:predict", 400),
        ("POST", "/v1/models/{}", 400),
        ("POST", "/v1/models/{}/metadata", 400),
        ("POST", "/v1/models/{}:rank", 400),
        ("GET", "/v1/models/{}/nothing", 400),
        ("GET", "/v1/models/no-such-model", 404),
        ("GET", "/v1/models/no-such-model/metadata", 404),
        ("GET", f"/v1/models/{{}}/versions/{NO_VERSION}", 404),
        ("GET", f"/v1/models/{{}}/labels/{NO_LABEL}/metadata", 400),
        ("GET", "/v2/models/{}", 404),
    ],
)
def test_wrong_method_or_path_is_refused_with(target, http_call, method, path, status):
    body = b'{"instances": ["a"]}' if method == "POST" else None
    assert http_call(method, path.format(target.model), body).status == status


# Operation


@pytest.fixture
def probe(target):
    """Runs the probe of the image and of Kubernetes; its exit code."""
    host, _, port = (target.rest or "").rpartition(":")
    if host not in ("127.0.0.1", "localhost"):
        pytest.skip("the probe asks the host it runs on")

    def probe(model):
        command = ["bash", str(PROBE), model, port]
        return subprocess.run(command, timeout=CALL_SECONDS, check=False).returncode

    return probe


def test_probe_tells_a_model_that_answers_from_one_that_does_not(target, probe):
    assert probe(target.model) == 0
    assert probe("no-such-model") != 0


@pytest.fixture
def samples(http_call):
    """Reads the Prometheus page: values by name and labels."""

    def samples():
        page = http_call("GET", METRICS_PATH)
        assert page.status == 200
        lines = re.findall(r"^([^#\s{]+)(?:\{(.*)\})? (\S+)$", page.text, re.M)
        return {
            (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(value)
            for name, labels, value in lines
        }

    return samples


def total(samples, name, **labels):
    """The sum over all samples of that name that have at least these labels."""
    return sum(
        value
        for (sample, found), value in samples.items()
        if sample == name and labels.items() <= set(found)
    )


def test_requests_are_counted_and_timed(target, samples, predict):
    before = samples()
    for _ in range(3):
        predict(text=[uuid.uuid4().hex])
    after = samples()
    for name, labels in (
        (":tensorflow:serving:request_count", {"status": "OK"}),
        (":tensorflow:serving:request_latency_count", {"entrypoint": "GRPC"}),
        (":tensorflow:serving:runtime_latency_count", {}),
    ):
        labels["model_name"] = target.model
        grown = total(after, name, **labels) - total(before, name, **labels)
        assert grown >= 3, name
    latency = ":tensorflow:serving:request_latency_sum"
    # Microseconds: three requests take more than 100 of them.
    assert total(after, latency) - total(before, latency) > 100


def test_batching_is_measured(target, samples, predict):
    if not target.max_batch_size:
        pytest.skip("the server does not batch (--max-batch-size 0)")
    name = ":tensorflow:serving:batching_session:queuing_latency_count"
    before = samples()
    predict(text=["a"])
    assert total(samples(), name) > total(before, name)
