"""Token counts, texts that are too long, and one text against many."""

import asyncio
import json

import numpy as np
import pytest
import tensorflow as tf
from support.servers import (
    DIM,
    Embedder,
    assert_one_line_mistake,
    export,
    run_here,
)

from simcse_tf.client import AsyncClient, Client, TextTooLong, VersionChanged
from simcse_tf.client.__main__ import main
from simcse_tf.client.counting import Counted
from simcse_tf.client.stub import ModelStub
from simcse_tf.core.errors import UserError

LIMIT = 4
TEXTS = ["one", "", "one two three four", "five words are too many", "of six", "a b c"]
COUNTS = [1, 0, 4, 4, 2, 3]


class Counting(Embedder):
    """The test model as an export that counts: a token is a word, and four are read."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def counted(self, text):
        words = tf.cast(tf.strings.split(text).row_lengths(), tf.int32)
        return {
            "embedding": self._embed(text),
            "tokens": tf.minimum(words, LIMIT),
            "truncated": words > LIMIT,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def counted_queries(self, text):
        return self.counted(tf.strings.join(["query ", text]))


@pytest.fixture(scope="module")
def target(serve, tmp_path_factory):
    module = Counting()
    path = tmp_path_factory.mktemp("counting") / "7"
    signatures = {
        "serving_default": module.encode,
        "similarity": module.similarity,
        "serving_tokens": module.counted,
        "serving_query_tokens": module.counted_queries,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    with serve(path) as server:
        yield server.target


@pytest.fixture
def client(target):
    with Client(target, batch_size=2) as client:
        yield client


@pytest.fixture
def command(capsys):
    return lambda *arguments: run_here(main, capsys, *arguments)


def test_counts_come_beside_the_embeddings_in_order(client):
    counted = client.encode_counted(iter(TEXTS))
    np.testing.assert_allclose(counted.embeddings, client.encode(TEXTS), atol=1e-6)
    assert counted.tokens.tolist() == COUNTS
    assert counted.truncated.tolist() == [False] * 3 + [True] + [False] * 2
    assert counted.version == 7
    queries = client.encode_counted(TEXTS[:2], output="query")
    assert queries.tokens.tolist() == [2, 1]


def test_no_texts_have_no_counts(client):
    counted = client.encode_counted([])
    assert counted.embeddings.shape == (0, DIM)
    assert (counted.tokens.dtype, counted.truncated.dtype) == (np.int32, bool)
    assert client.encode([], truncate=False).shape == (0, DIM)


def test_a_text_that_would_be_cut_is_refused_by_its_place(client):
    whole = TEXTS[:3]
    embeddings = client.encode(whole, truncate=False)
    np.testing.assert_allclose(embeddings, client.encode(whole), atol=1e-6)
    with pytest.raises(TextTooLong, match=r"^texts\[3\]: expected at most 4 tok") as it:
        client.encode(TEXTS, truncate=False)
    assert (it.value.place, it.value.limit) == (3, LIMIT)
    stream = client.encode_stream(iter(TEXTS), truncate=False)
    assert next(stream).shape == (2, DIM)
    with pytest.raises(TextTooLong):
        next(stream)


def test_only_what_is_counted_can_be_refused(client):
    with pytest.raises(UserError, match="float32, query, document.* received 'int8'"):
        client.encode(["a"], output="int8", truncate=False)
    with pytest.raises(UserError, match="a prompt for document, again with this ver"):
        client.encode(["a"], output="document", truncate=False)


def test_an_older_export_is_one_line(serve, tmp_path, command):
    with serve(export(tmp_path)) as server:
        asked = ("--target", server.target)
        done = command(*asked, "tokens", "a")
        assert_one_line_mistake(done, "serving_tokens", "export the model again")
        done = command(*asked, "encode", "--no-truncate", "a")
        assert_one_line_mistake(done, "serving_tokens", "export the model again")


@pytest.mark.parametrize(
    ("later", "error", "words"),
    [
        (Counted(np.ones((1, 3)), [1], [False], 2), VersionChanged, "from version 1"),
        (Counted(np.ones((1, 4)), [1], [False], 1), UserError, "rows of shape"),
    ],
    ids=["another version", "another width"],
)
@pytest.mark.parametrize("ask", [AsyncClient.encode, AsyncClient.encode_counted])
def test_all_answers_of_a_call_fit_together(monkeypatch, ask, later, error, words):
    first = Counted(np.ones((1, 3)), np.array([1]), np.array([False]), 1)
    later = later._replace(truncated=np.array(later.truncated))
    answers = iter([first, later])

    async def counted(self, *arguments):
        return next(answers)

    monkeypatch.setattr(ModelStub, "counted", counted)
    settings = {"truncate": False} if ask is AsyncClient.encode else {}

    async def call():
        async with AsyncClient("127.0.0.1:1", batch_size=1) as client:
            await ask(client, ["a", "b"], **settings)

    with pytest.raises(error, match=words):
        asyncio.run(call())


def test_command_tokens_prints_one_object_a_line(target, command):
    done = command("--target", target, "tokens", *TEXTS)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"text": text, "tokens": tokens, "truncated": text == TEXTS[3]}
        for text, tokens in zip(TEXTS, COUNTS, strict=True)
    ]


def test_command_encode_names_the_text_that_is_too_long(target, tmp_path, command):
    asked = ("--target", target, "encode", "--no-truncate")
    assert_one_line_mistake(
        command(*asked, *TEXTS), "TEXT 4: expected at most 4 tokens"
    )
    assert_one_line_mistake(command(*asked, "--format", "int8", "a"), "--no-truncate")
    lines, output = tmp_path / "in.txt", tmp_path / "out.npy"
    lines.write_text("\n".join(TEXTS))
    output.write_text("precious")
    files = ("--input", lines, "--output", output)
    done = command(*asked, *files)
    assert done.returncode == 2
    # Behind the progress bar.
    assert f"{lines}: line 4: expected at most" in done.stderr.splitlines()[-1]
    assert output.read_text() == "precious"
    lines.write_text("\n".join(TEXTS[:3]))
    assert command(*asked, *files).returncode == 0
    assert np.load(output).shape == (3, DIM)


def test_one_text_is_compared_with_many(client):
    many = ["one", "two", b"three"]
    expected = client.similarity(["one"] * 3, many)
    assert expected[0] == pytest.approx(1)
    for sides in (("one", many), (many, "one"), (b"one", many)):
        np.testing.assert_allclose(client.similarity(*sides), expected, atol=1e-6)
    # Not letter by letter.
    assert client.similarity("one", "two") == pytest.approx(expected[1:2], abs=1e-6)
    assert client.similarity("one", []).shape == (0,)
