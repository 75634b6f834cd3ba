"""The demo's models and indexes, and its command."""

import asyncio
import functools
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.forked import start_command
from support.models import SENTENCES
from support.servers import VERSION, free_port, run_here, server_in_thread
from support.web import DIM, embed

from simcse_tf import SimCSE, demo
from simcse_tf.client import Client
from simcse_tf.client.protocol import Answer
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.encoding.records import Record
from simcse_tf.indexing.changes import build
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.querying import check_same_embeddings, search_texts
from simcse_tf.indexing.sources import Origin, origin_of
from simcse_tf.web import local_model
from simcse_tf.web.models import Away
from simcse_tf.web.opening import Source, open_indexes, open_sides
from simcse_tf.web.served_model import ServedModel
from simcse_tf.web.serving import show

pytestmark = pytest.mark.slow

LONG = " ".join(SENTENCES)


class Embedded:
    """Sentences with embeddings that are there, as a source of an index."""

    name, key = "test", "test"
    ids_given, has_texts, untyped = True, True, False

    def __init__(self, embeddings, origin=None, has_texts=True):
        self.rows = embeddings
        self.has_texts = has_texts
        self.origin = origin or Origin("elsewhere/model", None, embeddings.shape[1])

    def records(self):
        for i, text in enumerate(SENTENCES):
            yield Record(f"s{i}", text.encode(), {"stars": i})

    def embeddings(self, texts, start, rows, advance):
        yield self.rows[start:]


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), max_length=16)


@pytest.fixture(scope="module")
def index(tmp_path_factory, tiny_preset, model):
    """The directory of an index that the tiny model built."""
    directory = tmp_path_factory.mktemp("demo") / "wiki"
    origin = origin_of(model, str(tiny_preset))
    build(directory, Embedded(ModelEncoder(model)(SENTENCES), origin))
    return str(directory)


def with_sides(test, *sources, **connection):
    """Runs a test with sides that are opened, and closes them."""

    async def run():
        sides = await open_sides(sources, open_indexes(sources), **connection)
        try:
            return await test(*sides)
        finally:
            for side in sides:
                await side.close()

    return asyncio.run(run())


def test_a_model_in_process_finds_what_index_search_finds(index, tiny_preset, model):
    encoder = ModelEncoder(model)
    queries = [LONG, "", "\ud800 and \x00"]
    expected = search_texts(Index.open(index), encoder, queries, 3)

    async def test(side):
        assert side.name == "wiki"
        for query, hits in zip(queries, expected, strict=True):
            found = await side.search(query, 3)
            told = [(hit["id"], hit["text"], hit["cosine"]) for hit in found["hits"]]
            assert told == [(hit.id, hit.text, hit.cosine) for hit in hits]
            [ids] = model.tokenize([query])
            tokens = found["reading"]["tokens"]
            assert [token["id"] for token in tokens] == ids
            words = [model.tokenizer.vocabulary[id] for id in ids]
            assert [token["text"] for token in tokens] == words
            assert [tokens[0]["kind"], tokens[-1]["kind"]] == ["special"] * 2
        whole = len(model.token_ids([LONG.encode()], 1000)[0])
        cut = (await side.search(LONG, 1))["reading"]
        assert (len(cut["tokens"]), cut["left_out"]) == (16, whole - 16)
        pair = await side.similarity(SENTENCES[0], SENTENCES[1])
        a, b = encoder(SENTENCES[:2]).astype(np.float64)
        assert pair["cosine"] == pytest.approx(float(a @ b), abs=1e-5)

    with_sides(test, Source(index, None, str(tiny_preset)))


def test_a_query_stands_behind_the_models_prompt_for_queries(monkeypatch):
    read = []

    def encode(model, texts):
        assert model.prompt == ""
        read.extend(texts)
        return np.ones((len(texts), 4), np.float32)

    monkeypatch.setattr(local_model, "encode", encode)
    monkeypatch.setattr(local_model, "reading_of_text", lambda model, text: text)

    async def test(prompts, expected):
        model = SimpleNamespace(prompt="own: ", prompts=prompts)
        local = local_model.LocalModel(model, 2)
        for role in ("query", "document", "sentence"):
            row = await local.embed(["rain"], role)
            np.testing.assert_allclose(row, [[0.5**0.5] * 2])
        assert read == expected
        assert await local.reading("rain") == expected[0]
        await local.close()
        read.clear()

    prompts = {"query": "find: ", "document": "text: "}
    asyncio.run(test(prompts, ["find: rain", "text: rain", "own: rain"]))
    asyncio.run(test({"passage": "x"}, ["own: rain"] * 3))


@pytest.fixture(scope="module")
def served(base_path):
    """Runs a server of the test model; yields its address."""
    from simcse_tf.server.servable import Servable

    with ThreadPoolExecutor(1) as executor:
        servable = Servable(VERSION, base_path / str(VERSION), None, executor)
        with server_in_thread(servable) as address:
            yield address.target


@pytest.fixture(scope="module")
def served_index(served, tmp_path_factory):
    """The directory of an index of the served model's embeddings."""
    directory = tmp_path_factory.mktemp("served") / "right"
    with Client(served) as client:
        build(directory, Embedded(client.encode(SENTENCES)))
    return str(directory)


def test_a_served_model_finds_what_the_index_holds(served, served_index, tmp_path):
    async def test(side):
        found = await side.search(SENTENCES[2], 2, where="stars >= 2")
        assert [found["hits"][0][key] for key in ("id", "cosine")] == ["s2", 1.0]
        assert found["reading"] is None

    for target in (served, f"{served}/simcse"):
        with_sides(test, Source(served_index, target, None))
    rows = Index.open(served_index).vectors(np.arange(len(SENTENCES)))
    wrong = str(tmp_path / "wrong")
    build(wrong, Embedded(rows[::-1].copy()))
    with pytest.raises(UserError, match=r"wrong: the model at .* embeds the text"):
        with_sides(test, Source(wrong, served, None))
    with pytest.raises(UserError, match="NOT_FOUND"):
        with_sides(test, Source(served_index, f"{served}/other", None))
    with pytest.raises(UserError, match="cannot reach the server"):
        with_sides(test, Source(served_index, f"127.0.0.1:{free_port()}", None))


class FakeServer:
    """A client whose server may become another one."""

    target = "server:1"

    def __init__(self):
        self.salt, self.longest, self.roles, self.version = "", 10_000, False, 1
        self.calls = []
        self.stub = self

    async def metadata(self, deadline):
        return {"serving_query": {}} if self.roles else {}

    async def predict(self, output, inputs, end):
        self.calls.append(output.signature)
        if self.salt is None:
            raise UserError("cannot reach the server at server:1")
        salt = self.salt + ("query" if output.signature == "serving_query" else "")
        texts = [text.decode().split()[: self.longest] for text in inputs["text"]]
        return Answer(embed([" ".join(words) for words in texts], salt), self.version)

    async def close(self):
        pass


@pytest.fixture
def fake(tmp_path):
    """A server, and the model of an index that it fits."""
    build(tmp_path / "index", Embedded(embed(SENTENCES)))
    opened = Index.open(tmp_path / "index")
    server = FakeServer()

    def serve(**options):
        check = functools.partial(check_same_embeddings, opened)
        return ServedModel(server, DIM, check, **options)

    return server, serve


def test_a_server_that_gets_another_model_does_not_answer_until_it_has_the_old(fake):
    server, serve = fake

    async def test():
        model = serve()
        await model.check()
        [row] = await model.embed(["rain"], "query")
        np.testing.assert_allclose(row, embed(["rain"])[0], atol=1e-6)
        before = len(server.calls)
        await model.embed(["rain"], "query")
        assert len(server.calls) == before + 1
        server.salt = "another"
        for _ in range(2):
            with pytest.raises(Away, match="embeds the text of row"):
                await model.embed(["rain"], "query")
        server.salt = None
        with pytest.raises(Away, match="cannot reach"):
            await model.embed(["rain"], "sentence")
        server.salt = ""
        [again] = await model.embed(["rain"], "query")
        np.testing.assert_array_equal(again, row)
        # Another version is looked at, and may be the same model.
        server.version, before = 2, len(server.calls)
        [again] = await model.embed(["rain"], "query")
        np.testing.assert_array_equal(again, row)
        assert len(server.calls) > before + 2

    asyncio.run(test())


def test_a_served_query_stands_behind_the_prompt_for_queries(fake):
    server, serve = fake
    server.roles = True

    async def test():
        model = serve()
        await model.check()
        [row] = await model.embed(["rain"], "query")
        np.testing.assert_allclose(row, embed(["rain"], "query")[0], atol=1e-6)
        [row] = await model.embed(["rain"], "sentence")
        np.testing.assert_allclose(row, embed(["rain"])[0], atol=1e-6)

    asyncio.run(test())


class Twin:
    """The fake server's model in this process, which cuts at 30 words."""

    async def embed(self, texts, role):
        return embed([" ".join(text.split()[:30]) for text in texts])

    async def close(self):
        pass


def test_tokens_of_a_model_that_cuts_elsewhere_are_not_shown(fake):
    server, serve = fake
    model = serve(twin=Twin())
    with pytest.raises(UserError, match="server:1 embed a query differently"):
        asyncio.run(model.check())
    server.longest = 30
    asyncio.run(serve(twin=Twin()).check())


def test_an_index_without_texts_is_refused(tmp_path):
    build(tmp_path / "bare", Embedded(embed(SENTENCES), has_texts=False))
    with pytest.raises(UserError, match="expected an index with texts"):
        open_indexes([Source(str(tmp_path / "bare"), "x:1", None)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --target"),
        (["--target", "x"], "expected HOST:PORT, received 'x'"),
        (["--target", "x:1/a/b"], "expected HOST:PORT"),
        (["--target", "x:99999"], "expected HOST:PORT"),
        (["--model", "m", "--port", "-1"], "--port"),
        (["--model", "m", "--compare-model", "n"], "expected --compare"),
        (["--model", "m", "--compare", "nowhere"], "nowhere: expected an index"),
        (["--model", "m", "--ca", "x.pem"], "--ca: expected --tls"),
        (["--model", "m", "--token-file", "none"], "--token-file: cannot read none"),
        (["--model", "nowhere"], "no model 'nowhere'"),
    ],
)
def test_a_mistake_is_told_in_one_line(index, arguments, message, capsys):
    done = run_here(demo.main, capsys, "--index", index, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_model_than_the_index_has_is_refused(index, small_preset, capsys):
    done = run_here(demo.main, capsys, "--index", index, "--model", small_preset)
    assert done.returncode == 2
    assert "was built with" in done.stderr
    assert str(small_preset) in done.stderr


@pytest.mark.parametrize(
    "name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.attack)]
)
def test_the_command_prints_its_address_and_stops_when_asked(
    served, served_index, tmp_path, name
):
    port = free_port()
    arguments = ["--index", served_index, "--target", served, "--port", port]
    process = start_command("simcse_tf.demo", *arguments, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}/"
    printed = Path(process._outputs[0])
    end = time.monotonic() + 100
    while not (printed.exists() and url in printed.read_text()):
        assert time.monotonic() < end
        assert process.returncode is None
        time.sleep(0.1)
    with urllib.request.urlopen(url, timeout=10) as page:
        assert b"Nearest sentences" in page.read()
    # Where another one is already.
    with pytest.raises(UserError, match=f"--port: cannot listen on 127.0.0.1:{port}"):
        asyncio.run(show([], "127.0.0.1", port))
    process.send_signal(signal.Signals[name])
    assert process.wait(30) == 0
    assert process.communicate()[1] == ""
