"""The OpenAI API on the Python server's REST port."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.counting_model import BATCHING, SMALLER, expected, load
from support.gateways import ask, call, embeddings_of
from support.servers import export, server_in_thread

from simcse_tf.openai_api import answers
from simcse_tf.openai_api.embeddings_request import MOST_INPUTS
from simcse_tf.quantization import truncate
from simcse_tf.server.metrics import Metrics
from simcse_tf.server.security import token_middleware
from simcse_tf.server.servable import Servable

TEXTS = ["A man plays.", "", "naïve 🎸", "A man plays."]


@pytest.fixture(scope="module")
def servable(tmp_path_factory):
    return load(tmp_path_factory.mktemp("counting"), version=3)


@pytest.fixture(scope="module")
def metrics():
    return Metrics()


@pytest.fixture(scope="module")
def port(servable, metrics):
    with server_in_thread(servable, metrics) as address:
        yield address.rest_port


def test_embeddings_are_the_graphs_own(port, servable):
    answer = ask(port, TEXTS, user="me")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Model-Version"] == "3"
    assert answer.value["object"] == "list"
    assert answer.value["model"] == "simcse"
    tokens = sum(min(len(text.encode()) + 2, 16) for text in TEXTS)
    assert answer.value["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    np.testing.assert_array_equal(embeddings_of(answer), expected(servable, TEXTS))


def test_base64_and_floats_are_the_same_bits(port):
    floats = embeddings_of(ask(port, TEXTS, encoding_format="float"))
    encoded = embeddings_of(ask(port, TEXTS, encoding_format="base64"))
    np.testing.assert_array_equal(floats, encoded)
    [one] = embeddings_of(ask(port, TEXTS[0]))
    np.testing.assert_array_equal(one, floats[0])


@pytest.mark.parametrize("role", ["query", "document"])
def test_input_type_takes_its_prompt(port, servable, role):
    signature = f"serving_{role}_tokens"
    np.testing.assert_array_equal(
        embeddings_of(ask(port, TEXTS, input_type=role)),
        expected(servable, TEXTS, signature),
    )


def test_dimensions_are_those_of_the_export(port, servable):
    np.testing.assert_array_equal(
        embeddings_of(ask(port, TEXTS, dimensions=SMALLER)),
        truncate(expected(servable, TEXTS), SMALLER),
    )
    assert embeddings_of(ask(port, TEXTS, dimensions=8)).shape == (4, 8)
    answer = ask(port, TEXTS, dimensions=5)
    assert answer.status == 400
    assert answer.value["error"]["param"] == "dimensions"
    assert "4, 8, received 5" in answer.value["error"]["message"]


def test_long_text_is_cut_or_refused(port):
    long = "x" * 15
    assert ask(port, ["a", long]).value["usage"]["prompt_tokens"] == 3 + 16
    answer = ask(port, ["a", long], truncate=False)
    assert answer.status == 400
    assert answer.value["error"]["code"] == "context_length_exceeded"
    assert "place 1" in answer.value["error"]["message"]
    assert ask(port, ["a", long[:14]], truncate=False).status == 200


def test_most_inputs_come_in_pieces(port, servable, monkeypatch):
    # Many parts for the model, many pieces for the answer.
    monkeypatch.setattr(answers, "PIECE_NUMBERS", 512)
    texts = [f"text {n}" for n in range(MOST_INPUTS)]
    assert BATCHING.max_batch_size * 64 < MOST_INPUTS
    answer = ask(port, texts)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    np.testing.assert_array_equal(embeddings_of(answer), expected(servable, texts))
    assert ask(port, [*texts, "one more"]).status == 400


def test_models_are_listed_and_described(port):
    listed = call(port, "GET", "/v1/models").value
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert (model["id"], model["object"]) == ("simcse", "model")
    # TF Serving has this path, too.
    described = call(port, "GET", "/v1/models/simcse").value
    assert described.items() >= model.items()
    assert described["model_version_status"][0]["state"] == "AVAILABLE"
    info = call(port, "GET", "/info").value
    assert info["models"][0]["dimensions"] == [SMALLER, 8]
    assert info["models"][0]["input_types"] == ["query", "document"]
    assert info["limits"]["inputs"] == MOST_INPUTS
    assert call(port, "GET", "/health").value == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/health", 405),
        ("DELETE", "/info", 405),
    ],
)
def test_wrong_method_is_refused(port, method, path, status):
    answer = call(port, method, path)
    assert answer.status == status
    assert answer.value["error"]["type"] == "invalid_request_error"


def test_unknown_model_is_not_found(port):
    answer = ask(port, "a", model="bert")
    assert answer.status == 404
    assert answer.value["error"]["code"] == "model_not_found"
    assert "expected one of simcse" in answer.value["error"]["message"]


def test_export_without_token_counts_says_so(tmp_path):
    servable = Servable(1, export(tmp_path, 1), None, ThreadPoolExecutor(1))
    with server_in_thread(servable) as address:
        answer = ask(address.rest_port, "a")
        assert answer.status == 400
        assert "export the model again" in answer.value["error"]["message"]
        assert call(address.rest_port, "GET", "/health").status == 200


def test_key_is_the_token_and_health_needs_none(servable):
    with server_in_thread(servable, middlewares=[token_middleware("s3cret")]) as it:
        for headers in ({}, {"Authorization": "Bearer another"}):
            answer = ask(it.rest_port, "a", headers)
            assert answer.status == 401
            assert answer.value["error"]["code"] == "invalid_api_key"
        assert call(it.rest_port, "GET", "/health").status == 200
        assert call(it.rest_port, "GET", "/info").status == 401
        assert ask(it.rest_port, "a", {"Authorization": "Bearer s3cret"}).status == 200


def test_requests_are_counted(port, metrics):
    ask(port, "a")
    page = metrics.render()[0].decode()
    assert 'request_count{model_name="simcse",status="OK"}' in page
    assert 'entrypoint="OpenAI"' in page
