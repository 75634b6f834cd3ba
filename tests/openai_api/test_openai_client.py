"""The official client of the OpenAI API, and frameworks on top of it.

The frameworks are in an environment of their own, whose Python `SIMCSE_CLIENTS_PYTHON`
names; `benchmarks/peers/openai_clients.txt` lists them.
"""

import asyncio
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from support import counting_model, openai_frameworks
from support.counting_model import BATCHING, SMALLER, load
from support.gateways import gateway
from support.openai_frameworks import FRAMEWORKS
from support.servers import CALL_SECONDS, server_in_thread

from simcse_tf.client import Client
from simcse_tf.quantization import truncate
from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.security import token_middleware
from simcse_tf.server.servable import Servable

openai = pytest.importorskip("openai", reason="openai is not installed")

KEY = "s3cret"
TEXTS = ["A man plays.", "", "naïve 🎸", "two\nlines", "A man plays.", "x" * 100_000]
MOST = 2048


@pytest.fixture(scope="module", params=["server", "gateway"])
def address(request, tmp_path_factory):
    """The server, or a gateway in front of one; either has a key for HTTP."""
    servable = load(tmp_path_factory.mktemp("counting"))
    keys = [token_middleware(KEY)]
    with server_in_thread(servable, middlewares=keys) as address:
        if request.param == "server":
            yield address
            return
        most = BATCHING.max_batch_size
        with gateway(address.target, token=KEY, max_batch_size=most) as it:
            yield SimpleNamespace(target=address.target, rest_port=it.port)


@pytest.fixture(scope="module")
def client(address):
    with connected(address) as client:
        yield client


@pytest.fixture(scope="module")
def encode(address):
    """What `Client.encode` returns, through gRPC."""
    with Client(address.target, batch_size=BATCHING.max_batch_size) as ours:
        yield ours.encode


def base_url(address):
    return f"http://127.0.0.1:{address.rest_port}/v1"


def connected(address, kind=openai.OpenAI, **settings):
    settings = {"api_key": KEY, "timeout": CALL_SECONDS, "max_retries": 0, **settings}
    return kind(base_url=base_url(address), **settings)


def rows(answer):
    assert [each.index for each in answer.data] == [*range(len(answer.data))]
    return np.array([each.embedding for each in answer.data], np.float32)


# Left out, it asks for base64.
@pytest.mark.parametrize("settings", [{}, {"encoding_format": "float"}])
def test_embeddings_are_those_of_encode_bit_for_bit(client, encode, settings):
    answer = client.embeddings.create(model="simcse", input=TEXTS, **settings)
    np.testing.assert_array_equal(rows(answer), encode(TEXTS))
    assert (answer.object, answer.model) == ("list", "simcse")
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)
    for text in ("", "naïve 🎸"):
        one = client.embeddings.create(model="simcse", input=text, **settings)
        np.testing.assert_array_equal(rows(one), encode([text]))


def test_async_client_gets_each_its_own(address, encode):
    texts = [f"text {n}" for n in range(24)]

    async def embed():
        async with connected(address, openai.AsyncOpenAI) as client:
            asked = (client.embeddings.create(model="simcse", input=t) for t in texts)
            return await asyncio.gather(*asked)

    found = np.concatenate([rows(answer) for answer in asyncio.run(embed())])
    np.testing.assert_array_equal(found, encode(texts))


def test_fewer_dimensions_are_those_of_truncate(client, encode):
    answer = client.embeddings.create(model="simcse", input=TEXTS, dimensions=SMALLER)
    np.testing.assert_array_equal(rows(answer), truncate(encode(TEXTS), SMALLER))


def test_extra_body_reaches_the_prompt_and_the_length(client, encode):
    def asked(**extra):
        return client.embeddings.create(
            model="simcse", input=["a", "x" * 99], extra_body=extra
        )

    assert not (rows(asked(input_type="query")) == encode(["a", "x" * 99])).any()
    with pytest.raises(openai.BadRequestError, match="place 1 has more tokens") as told:
        asked(truncate=False)
    assert told.value.code == "context_length_exceeded"


def test_most_texts_in_one_request(client, encode):
    texts = [f"text {n}" for n in range(MOST)]
    answer = client.embeddings.create(model="simcse", input=texts)
    np.testing.assert_array_equal(rows(answer), encode(texts))
    with pytest.raises(openai.BadRequestError, match="send them in several requests"):
        client.embeddings.create(model="simcse", input=[*texts, "one more"])


def test_models_are_listed_and_retrieved(client):
    assert [model.id for model in client.models.list()] == ["simcse"]
    model = client.models.retrieve("simcse")
    assert (model.id, model.object, model.owned_by) == ("simcse", "model", "simcse_tf")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("bert")


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"model": "bert"}, openai.NotFoundError, "no model 'bert'"),
        ({"input": []}, openai.BadRequestError, "received an empty list"),
        ({"input": [101, 102]}, openai.BadRequestError, "received token ids"),
        ({"input": [[101, 102]]}, openai.BadRequestError, "received token ids"),
        ({"dimensions": 5}, openai.BadRequestError, "has 4, 8, received 5"),
        ({"encoding_format": "int8"}, openai.BadRequestError, "encoding_format"),
    ],
    ids=["model", "empty", "ids", "lists of ids", "dimensions", "format"],
)
def test_mistakes_have_the_clients_classes(client, wrong, error, words):
    with pytest.raises(error, match=words) as told:
        client.embeddings.create(**{"model": "simcse", "input": "a", **wrong})
    assert told.value.type == "invalid_request_error"
    assert told.value.param == next(iter(wrong))


def test_wrong_key_is_an_authentication_error(address):
    with (
        connected(address, api_key="another") as client,
        pytest.raises(openai.AuthenticationError, match="the server's token"),
    ):
        client.embeddings.create(model="simcse", input="a")


def test_half_a_character_is_a_mistake(client, address):
    text = "half of 🎸: \ud83c"
    with pytest.raises(UnicodeEncodeError):
        client.embeddings.create(model="simcse", input=text)
    # Other clients write it as an escape.
    asked = urllib.request.Request(
        f"{base_url(address)}/embeddings",
        json.dumps({"model": "simcse", "input": text}).encode(),
        {"Authorization": f"Bearer {KEY}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=CALL_SECONDS)
    assert refused.value.code == 400
    assert "expected JSON" in json.load(refused.value)["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_get_the_embeddings_of_encode(address, encode, framework):
    python = os.environ.get("SIMCSE_CLIENTS_PYTHON", "")
    if not python:
        pytest.skip(f"SIMCSE_CLIENTS_PYTHON names no Python with {framework}")
    done = subprocess.run(
        [python, openai_frameworks.__file__, framework, base_url(address), KEY],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if found is None:
        pytest.skip(f"{python} has no {framework}")
    if framework == "langchain":
        assert "check_embedding_ctx_length=False" in found.pop("refused")
    texts = TEXTS
    if framework == "llama_index":  # by itself
        texts = [text.replace("\n", " ") for text in TEXTS]
    assert list(found) == ["queries", "documents", "async"]
    for rows in found.values():
        np.testing.assert_array_equal(np.array(rows, np.float32), encode(texts))


def test_client_comes_back_after_a_full_queue(tmp_path):
    one_at_a_time = BatchingParameters(
        max_batch_size=1,
        batch_timeout_micros=0,
        max_enqueued_batches=1,
        num_batch_threads=1,
    )
    path = counting_model.export(tmp_path)
    servable = Servable(1, path, one_at_a_time, ThreadPoolExecutor(1))
    with server_in_thread(servable) as address:
        errors = refusals_while_busy(address, ["slow 1", "slow 2", "slow 3"], "a")
    assert {type(error) for error in errors} == {openai.InternalServerError}
    assert {error.status_code for error in errors} == {503}
    assert {error.response.headers["Retry-After"] for error in errors} == {"1"}


def test_client_comes_back_after_too_many_large_requests(tmp_path):
    large = "x" * 90_000
    with server_in_thread(load(tmp_path), max_body_bytes=100_000) as address:
        errors = refusals_while_busy(address, [f"slow{large}"] * 4, large)
    assert {type(error) for error in errors} == {openai.RateLimitError}
    assert {error.type for error in errors} == {"rate_limit_error"}


def refusals_while_busy(address, slow, text):
    """Keeps the server busy with `slow` until it refuses `text`.

    Returns how clients without retries were refused. Those with retries never are.
    """
    errors, end = [], time.monotonic() + CALL_SECONDS

    def embed(client, text):
        return client.embeddings.create(model="simcse", input=text)

    def keep_busy(text):
        while not errors and time.monotonic() < end:
            embed(patient, text)

    def ask_until_refused():
        while not errors and time.monotonic() < end:
            try:
                embed(impatient, text)
            except openai.APIStatusError as error:
                errors.append(error)
        embed(patient, text)

    with (
        connected(address) as impatient,
        connected(address, max_retries=60) as patient,
        ThreadPoolExecutor(len(slow) + 1) as threads,
    ):
        busy = [threads.submit(keep_busy, each) for each in slow]
        for each in (threads.submit(ask_until_refused), *busy):
            each.result()
    assert errors
    return errors
