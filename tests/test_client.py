"""The client, against the Python server in a process of its own."""

import json
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from serving_helpers import (
    DIM,
    MIXED_TEXTS,
    VERSION,
    environment,
    export,
    running_server,
)

from simcse_tf.client import Client, ServerError
from simcse_tf.errors import UserError

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(model_path):
    return tf.saved_model.load(str(model_path))


@pytest.fixture(scope="module")
def server(model_path):
    with running_server(model_path.parent) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.target, timeout=30) as client:
        yield client


def run_client(*arguments: str | bytes) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "simcse_tf.client", *arguments],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )


def assert_one_line_mistake(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr.decode()


def test_embeddings_equal_those_computed_in_process(client, model):
    expected = model.signatures["serving_default"](text=tf.constant(MIXED_TEXTS))
    embeddings = client.encode(MIXED_TEXTS)
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, expected["embedding"])


def test_text_and_its_utf_8_bytes_embed_alike(client):
    texts = ["", "naïve 🎸", "plain"]
    np.testing.assert_array_equal(
        client.encode(texts), client.encode([text.encode() for text in texts])
    )


def test_half_a_surrogate_pair_is_sent_as_its_bytes(client):
    np.testing.assert_array_equal(
        client.encode(["\ud83c"]), client.encode([b"\xed\xa0\xbc"])
    )


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_long_lists_are_split_and_keep_their_order(server, model, batch_size):
    texts = [f"sentence number {i}" for i in range(150)]
    expected = model.signatures["serving_default"](text=tf.constant(texts))["embedding"]
    with Client(server.target, batch_size=batch_size) as client:
        embeddings = client.encode(texts)
        scores = client.similarity(texts, texts[::-1])
    # Not equal: a square root depends on its place in the vector register.
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(scores, np.sum(expected * expected[::-1], 1), atol=1e-6)


def test_no_texts_give_empty_arrays(client):
    assert client.encode([]).shape == (0, DIM)
    assert client.encode([]).dtype == np.float32
    assert client.similarity([], []).shape == (0,)


def test_similarity_compares_pairs(client, model):
    other = MIXED_TEXTS[::-1]
    expected = model.signatures["similarity"](
        text_a=tf.constant(MIXED_TEXTS), text_b=tf.constant(other)
    )
    scores = client.similarity(MIXED_TEXTS, other)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected["cosine_similarity"])


def test_lists_of_different_lengths_are_refused(client):
    with pytest.raises(UserError, match="2 and 1"):
        client.similarity(["a", "b"], ["c"])


def test_one_text_in_place_of_a_list_is_refused(client):
    with pytest.raises(TypeError, match="a list of texts"):
        client.encode("one text")


def test_batch_size_must_be_positive():
    with pytest.raises(UserError, match="batch_size"):
        Client(NOBODY, batch_size=0)


def test_tensor_content_is_read_as_well_as_float_val():
    from simcse_tf.client import _to_array

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    proto = tf.make_tensor_proto(array)
    assert proto.tensor_content
    np.testing.assert_array_equal(_to_array(proto), array)


def test_status_and_metadata_describe_the_model(client):
    assert client.status() == {VERSION: "AVAILABLE"}
    signature = client.metadata()["serving_default"]
    assert signature["inputs"] == {"text": {"dtype": "string", "shape": [-1]}}
    assert signature["outputs"] == {
        "embedding": {"dtype": "float32", "shape": [-1, DIM]}
    }


def test_refusal_carries_code_and_details(server):
    with (
        Client(server.target, model="bert") as client,
        pytest.raises(ServerError, match=server.target) as caught,
    ):
        client.encode(["a"])
    assert caught.value.code == grpc.StatusCode.NOT_FOUND
    assert "Latest(bert)" in caught.value.details


def test_unreachable_server_is_named():
    with Client(NOBODY) as client, pytest.raises(ServerError) as caught:
        client.encode(["a"])
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert f"cannot reach the server at {NOBODY}" in str(caught.value)


def test_waiting_ends_once_the_model_answers(client):
    client.wait_until_ready(timeout=10)


def test_waiting_for_nobody_ends_in_time():
    start = time.monotonic()
    with Client(NOBODY) as client, pytest.raises(ServerError):
        client.wait_until_ready(timeout=1)
    assert 1 <= time.monotonic() - start < 5


def test_importing_the_client_does_not_import_tensorflow():
    code = (
        "import sys, simcse_tf.client\n"
        "assert not {'tensorflow', 'grpc', 'keras'} & sys.modules.keys()"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=environment(), timeout=60, check=True
    )


def test_help_answers_without_a_server():
    done = run_client("--help")
    assert done.returncode == 0
    assert b"similarity" in done.stdout


def test_command_encode_prints_one_object_a_line(server, client):
    texts = ["A man is playing a guitar.", "naïve 🎸", ""]
    done = run_client("--target", server.target, "encode", *texts)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    embeddings = np.array([line["embedding"] for line in lines], np.float32)
    np.testing.assert_array_equal(embeddings, client.encode(texts))
    assert done.stderr == b""


def test_command_similarity_compares_the_first_with_each_other(server, client):
    texts = [b"caf\xc3\xa9", b"-dash", b"not UTF-8 \xff"]
    done = run_client("--target", server.target, "similarity", "--", *texts)
    assert done.returncode == 0, done.stderr
    scores = client.similarity([texts[0]] * 2, texts[1:])
    assert done.stdout.splitlines() == [
        b"%.6f\t%b\t%b" % (score, texts[0], other)
        for score, other in zip(scores, texts[1:], strict=True)
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "a"], ["--target"]),
        (["--target", NOBODY, "similarity", "a"], ["similarity", "two texts"]),
        (["--target", NOBODY, "encode"], ["TEXT"]),
        (["--target", NOBODY, "rank", "a"], ["rank"]),
        (["--target", "localhost", "encode", "a"], ["--target", "HOST:PORT"]),
        (["--target", "localhost:x", "encode", "a"], ["--target", "localhost:x"]),
    ],
)
def test_wrong_flags_are_mistakes(arguments, words):
    start = time.monotonic()
    assert_one_line_mistake(run_client(*arguments), *words)
    assert time.monotonic() - start < 3  # no TensorFlow in between


def test_unreachable_server_is_one_line():
    done = run_client("--target", NOBODY, "encode", "a")
    assert_one_line_mistake(done, NOBODY, "UNAVAILABLE")


def test_refusal_is_one_line(server):
    done = run_client("--target", server.target, "--model", "bert", "encode", "a")
    assert_one_line_mistake(done, "NOT_FOUND", "bert")
