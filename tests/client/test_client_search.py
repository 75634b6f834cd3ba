"""`client.search`, over gRPC and REST, against an index inside a served model."""

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from support.searching import TEXTS, embed, export_searchable
from support.servers import (
    assert_one_line_mistake,
    export,
    run_here,
    server_in_thread,
)
from tensorflow_serving.apis import predict_pb2

from simcse_tf.client import AsyncClient, Client, Hit, ServerError, messages_pb2
from simcse_tf.client.__main__ import main
from simcse_tf.client.hits import read_hits
from simcse_tf.core.errors import UserError
from simcse_tf.search.exact import top_k
from simcse_tf.server import text_config
from simcse_tf.server.servable import Servable

# Texts of other lengths, and some that are in the index.
QUERIES = [f"query {n}" for n in range(100)] + TEXTS[:10]


def serving(path):
    batching = text_config.read_batching(text_config.DEFAULT_BATCHING)
    return server_in_thread(Servable(1, path, batching, ThreadPoolExecutor(1)))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = export_searchable(tmp_path_factory.mktemp("searchable") / "1")
    with serving(path) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.target) as client:
        yield client


def expected_hits(queries, k):
    rows, cosines = top_k(embed(tf.constant(queries)), embed(tf.constant(TEXTS)), k)
    return [
        [
            Hit(f"id {n}", TEXTS[n], cosine, {"length": len(TEXTS[n])})
            for n, cosine in zip(*each, strict=True)
        ]
        for each in zip(rows.tolist(), cosines.tolist(), strict=True)
    ]


def test_hits_are_those_of_exact_search_in_order(client):
    # More than one request.
    assert client.search(QUERIES, k=3) == expected_hits(QUERIES, 3)
    assert client.search(["naïve façade 🎸"], 1)[0][0].cosine == 1.0
    assert client.search([]) == []
    assert len(client.search(["a"], k=1000)[0]) == len(TEXTS)


def test_a_coroutine_gets_the_same(server):
    async def search():
        async with AsyncClient(server.target) as client:
            return await client.search(iter(QUERIES[:3]), k=2)

    assert asyncio.run(search()) == expected_hits(QUERIES[:3], 2)


def test_merged_requests_get_as_many_hits_as_each_asked_for(client):
    ks = [1 + n % 7 for n in range(len(QUERIES))]
    with ThreadPoolExecutor(32) as threads:
        found = threads.map(lambda text, k: client.search([text], k)[0], QUERIES, ks)
        assert [*map(len, found)] == ks
    [found], [expected] = client.search(["a"], 4), expected_hits(["a"], 4)
    assert found == expected


def test_rest_answers_row_by_row(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port)
    rows = [{"text": QUERIES[0], "k": 2}, {"text": QUERIES[1], "k": 1}]
    body = json.dumps({"signature_name": "search", "instances": rows})
    connection.request("POST", "/v1/models/simcse:predict", body)
    [first, second] = json.load(connection.getresponse())["predictions"]
    [hits, others] = expected_hits(QUERIES[:2], 2)
    assert first["ids"] == [hit.id for hit in hits]
    assert first["texts"] == [hit.text for hit in hits]
    np.testing.assert_allclose(first["cosines"], [hit.cosine for hit in hits])
    assert [json.loads(text) for text in first["metadata"]] == [
        hit.metadata for hit in hits
    ]
    assert second["ids"] == [others[0].id, ""]
    assert second["cosines"][1] == -2


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_out_of_range_is_refused_before_it_is_sent(k):
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(UserError, match=f"expected 1 to 1000 neighbours, received {k}"),
    ):
        client.search(["a"], k=k)


def test_a_model_without_an_index_says_so(tmp_path):
    with serving(export(tmp_path, 1)) as server, Client(server.target) as client:
        with pytest.raises(ServerError, match='"search" not found') as caught:
            client.search(["a"])
        assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION


def test_the_command_prints_hits(server, capsys):
    command = ["--target", server.target, "search"]
    main([*command, "a", "--k", "2"])
    [hits, others] = expected_hits(["a", "b"], 2)
    lines = [f"  {hit.cosine:.4f}  {hit.id}  {hit.text}" for hit in hits]
    assert capsys.readouterr().out.splitlines() == ["a", *lines]
    main([*command, "a", "b", "--k", "2", "--json"])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [
        {"query": "a", "hits": [hit._asdict() for hit in hits]},
        {"query": "b", "hits": [hit._asdict() for hit in others]},
    ]
    assert list(printed[0]["hits"][0]) == ["id", "text", "cosine", "metadata"]
    done = run_here(main, capsys, *command, "a", "--k", "0")
    assert_one_line_mistake(done, "k: expected 1 to 1000 neighbours, received 0")


# What a server answers


def response(**outputs):
    """An answer as a server packs it, read with the client's own classes."""
    packed = predict_pb2.PredictResponse()
    for name, values in outputs.items():
        packed.outputs[name].CopyFrom(tf.make_tensor_proto(values))
    return messages_pb2.PredictResponse.FromString(packed.SerializeToString())


FOUND = {
    "ids": np.array([[b"7", b""]], object),
    "texts": np.array([["naïve".encode(), b""]], object),
    "cosines": np.array([[0.5, -2]], np.float32),
}


def test_strings_are_read_packed_or_not():
    assert read_hits(response(**FOUND), 1, 2).of_texts == [[Hit("7", "naïve", 0.5, {})]]
    # As TF Serving sends them with --enable_serialization_as_tensor_content.
    packed = response(**FOUND)
    for each in packed.outputs:
        if strings := each.value.string_val[:]:
            assert max(map(len, strings)) < 128
            lengths = bytes(map(len, strings))
            each.value.tensor_content = lengths + b"".join(strings)
            del each.value.string_val[:]
    assert read_hits(packed, 1, 2) == read_hits(response(**FOUND), 1, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"ids": None},
            "expected outputs ids from the server, received cosines, texts",
        ),
        ({"cosines": np.zeros((1, 1), np.float32)}, r"of shape \(1, 2 or more\)"),
        (
            {"cosines": np.zeros((2, 2), np.float32)},
            r"received float32 of shape \(2, 2",
        ),
        ({"cosines": np.zeros((1, 2), np.int8)}, "expected float32 .* received int8"),
        ({"cosines": np.array([[np.nan, 0]], np.float32)}, "from -1 to 1 .* nan"),
        ({"cosines": np.array([[7, 0]], np.float32)}, "from -1 to 1 .* 7.0"),
        ({"ids": np.array([[b"7"]], object)}, "expected strings of shape"),
        ({"texts": np.zeros((1, 2), np.float32)}, "received 0 of dtype float32"),
        ({"metadata": np.array([[b"[1]", b""]], object)}, "expected a JSON object"),
        ({"metadata": np.array([[b"{", b""]], object)}, "expected a JSON object"),
    ],
    ids=range(10),
)
def test_an_answer_that_does_not_fit_is_refused(changed, message):
    outputs = {k: v for k, v in {**FOUND, **changed}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        read_hits(response(**outputs), 1, 2)
