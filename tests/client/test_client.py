"""The client, against the Python server in a thread of this process."""

import json
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.servers import (
    DIM,
    MIXED_TEXTS,
    VERSION,
    Embedder,
    assert_one_line_mistake,
    environment,
    export,
    run_here,
)

from simcse_tf.client import Client, Retry, ServerError
from simcse_tf.client.__main__ import main
from simcse_tf.core.errors import UserError

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(model_path):
    return tf.saved_model.load(str(model_path))


@pytest.fixture(scope="module")
def server(serve, model_path):
    with serve(model_path) as server:
        yield server


class Quantised(Embedder):
    """The test model with embeddings to store."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def int8(self, text):
        # Less a half, so that there are negative numbers.
        scaled = tf.round((self._embed(text) - 0.5) * 127)
        return {"embedding_int8": tf.cast(scaled, tf.int8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def binary(self, text):
        bits = tf.cast(self._embed(text) > 0.3, tf.int32)
        packed = tf.reduce_sum(bits * 2 ** tf.range(7, -1, -1), -1, keepdims=True)
        return {"embedding_bits": tf.cast(packed, tf.uint8)}


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    module = Quantised()
    path = tmp_path_factory.mktemp("quantised") / "1"
    signatures = {
        "serving_default": module.encode,
        "serving_int8": module.int8,
        "serving_binary": module.binary,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


@pytest.fixture
def client(server):
    with Client(server.target, timeout=30) as client:
        yield client


def assert_same(actual, expected) -> None:
    # Not equal: a square root depends on its place in the vector register, which
    # depends on the texts that the server computes at the same time.
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def run_client(*arguments: str | bytes) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "simcse_tf.client", *arguments],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def command(capsys):
    """Runs the command line in this process."""
    return lambda *arguments: run_here(main, capsys, *arguments)


def test_embeddings_equal_those_computed_in_process(client, model):
    expected = model.signatures["serving_default"](text=tf.constant(MIXED_TEXTS))
    embeddings = client.encode(MIXED_TEXTS)
    assert embeddings.dtype == np.float32
    assert_same(embeddings, expected["embedding"])


def test_text_and_its_utf_8_bytes_embed_alike(client):
    texts = ["", "naïve 🎸", "plain"]
    assert_same(client.encode(texts), client.encode([text.encode() for text in texts]))


def test_half_a_surrogate_pair_is_sent_as_its_bytes(client):
    assert_same(client.encode(["\ud83c"]), client.encode([b"\xed\xa0\xbc"]))


@pytest.mark.parametrize("batch_size", [7, 50, 64])
def test_long_lists_are_split_and_keep_their_order(server, model, batch_size):
    texts = [f"sentence number {i}" for i in range(150)]
    expected = model.signatures["serving_default"](text=tf.constant(texts))["embedding"]
    with Client(server.target, batch_size=batch_size) as client:
        embeddings = client.encode(texts)
        scores = client.similarity(texts, texts[::-1])
    assert_same(embeddings, expected)
    assert_same(scores, np.sum(expected * expected[::-1], 1))


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
    assert_same(scores, expected["cosine_similarity"])


def test_lists_of_different_lengths_are_refused(client):
    with pytest.raises(UserError, match="2 and 1"):
        client.similarity(["a", "b"], ["c"])


def test_one_text_in_place_of_a_list_is_refused(client):
    with pytest.raises(TypeError, match="a list of texts"):
        client.encode("one text")


@pytest.mark.parametrize("texts", [[None], ["a", 1], [["a"]]])
def test_what_is_not_a_text_is_refused(client, texts):
    with pytest.raises(TypeError, match="expected texts"):
        client.encode(texts)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"version": 1, "label": "stable"}, "a version or a label"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Client(NOBODY, **settings)


def test_an_iterator_may_give_the_texts(client):
    texts = [f"sentence {i}" for i in range(200)]
    streamed = list(client.encode_stream(iter(texts)))
    assert [len(rows) for rows in streamed] == [64, 64, 64, 8]
    assert_same(np.concatenate(streamed), client.encode(texts))


def test_quantised_outputs_have_their_own_signatures(serve, quantised, command):
    with serve(quantised) as server, Client(server.target) as client:
        texts = [f"sentence {i}" for i in range(100)]
        floats = client.encode(texts)
        integers = client.encode(texts, output="int8")
        bits = client.encode(texts, output="binary")
        empty = client.encode([], output="binary")
        done = command("--target", server.target, "encode", "--format", "int8", "a")
    assert (integers.dtype, integers.shape) == (np.int8, (100, DIM))
    np.testing.assert_allclose(integers / 127, floats - 0.5, atol=0.5 / 127 + 1e-6)
    assert integers.min() < 0
    np.testing.assert_array_equal(bits, np.packbits(floats > 0.3, axis=1))
    assert (empty.dtype, empty.shape) == (np.uint8, (0, DIM // 8))
    assert done.returncode == 0, done.stderr
    assert all(type(it) is int for it in json.loads(done.stdout)["embedding"])


def test_an_output_that_the_model_lacks_is_reported(client):
    with pytest.raises(ServerError, match="serving_int8"):
        client.encode(["a"], output="int8")
    with pytest.raises(UserError, match="serving_int8"):
        client.encode([], output="int8")
    with pytest.raises(UserError, match="float32, int8, binary"):
        client.encode(["a"], output="float16")


def test_the_version_may_be_chosen(server):
    with Client(server.target, version=VERSION) as client:
        assert client.encode(["a"]).shape == (1, DIM)
        assert client.status() == {VERSION: "AVAILABLE"}
    with Client(server.target, version=VERSION + 1) as client:
        for ask in (lambda: client.encode(["a"]), client.status, client.metadata):
            with pytest.raises(ServerError) as caught:
                ask()
            assert caught.value.code == grpc.StatusCode.NOT_FOUND


def test_an_unknown_label_is_reported(server):
    with (
        Client(server.target, label="canary") as client,
        pytest.raises(ServerError, match="canary") as caught,
    ):
        client.encode(["a"])
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


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
    once = Retry(attempts=1)
    with Client(NOBODY, retry=once) as client, pytest.raises(ServerError) as caught:
        client.encode(["a"])
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE
    assert f"cannot reach the server at {NOBODY}" in str(caught.value)


def test_waiting_ends_once_the_model_answers(client):
    client.wait_until_ready(timeout=10)


def test_waiting_for_nobody_ends_in_time():
    start = time.monotonic()
    with Client(NOBODY) as client, pytest.raises(ServerError):
        client.wait_until_ready(timeout=0.3)
    assert 0.3 <= time.monotonic() - start < 5


def test_the_client_does_not_import_tensorflow(server):
    code = (
        "import re, sys\n"
        "from simcse_tf.client import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    client.encode(['a']), client.similarity(['a'], ['b'])\n"
        "    client.status(), client.metadata()\n"
        "assert not {'tensorflow', 'tensorflow_serving', 'keras'} & {*sys.modules}\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.target],
        env=environment(),
        timeout=60,
        check=True,
        capture_output=True,
    )
    assert int(done.stdout) < 100_000  # the most memory it had, in KB


def test_help_answers_without_a_server():
    start = time.monotonic()
    done = run_client("--help")
    assert time.monotonic() - start < 3  # 0.3 on a machine that has nothing else to do
    assert done.returncode == 0
    assert b"similarity" in done.stdout


def test_command_encode_prints_one_object_a_line(server, client, command):
    texts = ["A man is playing a guitar.", "naïve 🎸", ""]
    done = command("--target", server.target, "encode", *texts)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    embeddings = np.array([line["embedding"] for line in lines], np.float32)
    assert_same(embeddings, client.encode(texts))
    assert done.stderr == ""


def test_command_similarity_compares_the_first_with_each_other(server, client):
    texts = [b"caf\xc3\xa9", b"-dash", b"not UTF-8 \xff"]
    done = run_client("--target", server.target, "similarity", "--", *texts)
    assert done.returncode == 0, done.stderr
    scores = client.similarity([texts[0]] * 2, texts[1:])
    assert done.stdout.splitlines() == [
        b"%.6f\t%b\t%b" % (score, texts[0], other)
        for score, other in zip(scores, texts[1:], strict=True)
    ]


def test_command_status_and_metadata(server, client, command):
    done = command("--target", server.target, "status")
    assert done.stdout == f"{VERSION}\tAVAILABLE\n"
    done = command("--target", server.target, "metadata")
    assert json.loads(done.stdout) == client.metadata()


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (b"one line", [b"one line"]),
        (
            b"windows\r\n\nnot UTF-8 \xff\nlast\n",
            [b"windows", b"", b"not UTF-8 \xff", b"last"],
        ),
        (
            b"\n".join(b"line %d" % i for i in range(1000)),
            [b"line %d" % i for i in range(1000)],
        ),
    ],
)
def test_command_encode_writes_one_row_a_line(
    server, client, tmp_path, command, content, texts
):
    (tmp_path / "in.txt").write_bytes(content)
    output = tmp_path / "out.npy"
    done = command(
        *("--target", server.target, "encode"),
        *("--input", tmp_path / "in.txt", "--output", output),
    )
    assert done.returncode == 0, done.stderr
    assert "encoding" in done.stderr  # the progress bar
    assert_same(np.load(output), client.encode(texts))
    assert {it.name for it in tmp_path.iterdir()} == {"in.txt", "out.npy"}


def test_a_file_that_cannot_be_encoded_leaves_the_old_output(server, tmp_path, command):
    (tmp_path / "in.txt").write_text("a\n")
    output = tmp_path / "out.npy"
    output.write_text("precious")
    files = ("--input", tmp_path / "in.txt", "--output", output)
    start = time.monotonic()
    for target, words in ((NOBODY, "UNAVAILABLE"), (server.target, "serving_int8")):
        done = command("--target", target, "encode", "--format", "int8", *files)
        assert_one_line_mistake(done, words)
    assert time.monotonic() - start < 10  # a wrong address is not tried for long
    assert output.read_text() == "precious"
    assert {it.name for it in tmp_path.iterdir()} == {"in.txt", "out.npy"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "a"], ["--target"]),
        (["--target", NOBODY, "similarity", "a"], ["similarity", "two texts"]),
        (["--target", NOBODY, "encode"], ["TEXT"]),
        (["--target", NOBODY, "rank", "a"], ["rank"]),
        (["--target", "localhost", "encode", "a"], ["--target", "HOST:PORT"]),
        (["--target", "localhost:x", "encode", "a"], ["--target", "localhost:x"]),
        (["--target", NOBODY, "encode", "a", "--input", "b"], ["--input", "one of"]),
        (["--target", NOBODY, "encode", "--input", "b"], ["--output"]),
        (["--target", NOBODY, "encode", "a", "--output", "b"], ["--input"]),
        (
            ["--target", NOBODY, "encode", "--input", "/no", "--output", "b"],
            ["--input", "/no"],
        ),
        (["--target", NOBODY, "--timeout", "x", "status"], ["--timeout", "'x'"]),
        (["--target", NOBODY, "--timeout", "0", "status"], ["timeout"]),
        (["--target", NOBODY, "--version", "-1", "status"], ["--version"]),
        (
            ["--target", NOBODY, "--version", "1", "--label", "a", "status"],
            ["--label"],
        ),
        (["--target", NOBODY, "--ca", "ca.pem", "status"], ["--ca", "--tls"]),
        (["--target", NOBODY, "--tls", "--ca", "/no", "status"], ["/no"]),
        (["--target", NOBODY, "--token-file", "/no", "status"], ["--token-file"]),
        (["--target", NOBODY, "--token-file", "/dev/null", "status"], ["a file"]),
        (["--target", NOBODY, "--tls", "--ca", __file__, "status"], ["ca:", "PEM"]),
        (
            ["--target", NOBODY, "encode", "--input", "/dev/zero", "--output", "b"],
            ["--input", "/dev/zero"],
        ),
    ],
)
def test_wrong_flags_are_mistakes(command, arguments, words):
    assert_one_line_mistake(command(*arguments), *words)


def test_unreachable_server_is_one_line():
    start = time.monotonic()
    done = run_client("--target", NOBODY, "encode", "a")
    assert time.monotonic() - start < 3  # no TensorFlow in between
    assert (done.returncode, done.stdout) == (2, b"")
    [line] = done.stderr.decode().splitlines()
    assert NOBODY in line
    assert "UNAVAILABLE" in line


def test_refusal_is_one_line(server, command):
    done = command("--target", server.target, "--model", "bert", "encode", "a")
    assert_one_line_mistake(done, "NOT_FOUND", "bert")
