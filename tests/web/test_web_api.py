"""The page's API, through aiohttp's own test client."""

import asyncio
import json

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from support.models import SENTENCES
from support.web import MemoryIndex, embed, side_of

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.search.exact import top_k
from simcse_tf.web import requests
from simcse_tf.web.app import STATIC, make_app

METADATA = [{"stars": i % 5, "kind": "news"} for i in range(len(SENTENCES))]
QUERY = "two dogs in the snow"
SEARCH = "/api/sides/0/search"
JSON = {"Content-Type": "application/json"}


def with_client(test, *sides, **options):
    """Runs a test with a client of the page over these sides."""
    sides = sides or (side_of(SENTENCES, metadata=METADATA, **options),)

    async def run():
        server = TestServer(make_app(sides, names=["demo.example"]))
        async with TestClient(server) as client:
            await test(client)

    asyncio.run(run())


def refusal(body, path=SEARCH, **options):
    """Status and message of what a request brings."""
    found = []

    async def ask(client):
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        headers = options.pop("headers", JSON)
        answer = await client.post(path, data=data, headers=headers)
        found.extend([answer.status, (await answer.json())["error"]])

    with_client(ask)
    return found


def test_hits_are_those_of_the_index_in_its_order():
    async def test(client):
        answer = await client.post(SEARCH, json={"query": QUERY, "k": 3})
        assert answer.status == 200
        found = await answer.json()
        rows, cosines = top_k(embed([QUERY]), embed(SENTENCES), 3)
        assert found["hits"] == [
            {
                "id": str(row),
                "text": SENTENCES[row],
                "cosine": cosine,
                "metadata": METADATA[row],
            }
            for row, cosine in zip(rows[0].tolist(), cosines[0].tolist(), strict=True)
        ]
        assert len(found["plane"]["points"]) == 4

    with_client(test)


def test_a_threshold_leaves_out_what_is_farther():
    async def test(client):
        body = {"query": SENTENCES[2], "k": 8, "threshold": 0.999}
        found = await (await client.post(SEARCH, json=body)).json()
        assert [hit["text"] for hit in found["hits"]] == [SENTENCES[2]]
        body["threshold"] = 1.0
        body["query"] = "nothing like it"
        found = await (await client.post(SEARCH, json=body)).json()
        assert found["hits"] == []
        assert found["plane"]["points"] == [[0.0, 0.0]]

    with_client(test)


def test_two_sides_answer_each_with_its_own_model():
    sides = side_of(SENTENCES), side_of(SENTENCES[:4], "other", salt="x")

    async def test(client):
        about = (await (await client.get("/api/sides")).json())["sides"]
        assert [side["name"] for side in about] == ["one", "other"]
        assert [side["rows"] for side in about] == [8, 4]
        for i, salt in enumerate(("", "x")):
            path = f"/api/sides/{i}/similarity"
            answer = await client.post(path, json={"a": QUERY, "b": SENTENCES[2]})
            a, b = l2_normalize(embed([QUERY, SENTENCES[2]], salt), np.float64)
            assert (await answer.json())["cosine"] == round(float(a @ b), 6)
        assert sides[1].model.asked[-1][0] == "sentence"
        await client.post(SEARCH, json={"query": QUERY})
        assert sides[0].model.asked[-1] == ("query", [QUERY])

    with_client(test, *sides)


def test_the_first_page_tells_of_the_index_and_proposes_some_of_its_texts():
    async def test(client):
        found = await (await client.get("/api/sides")).json()
        [side] = found["sides"]
        assert found["most_hits"] == requests.MOST_HITS
        assert side["columns"] == {"stars": "int", "kind": "str"}
        assert side["dimension"] == 128
        assert set(side["examples"]) < set(SENTENCES)
        assert len(side["examples"]) == 3

    with_client(test)


@pytest.mark.parametrize(
    "text",
    ["", "\x00\x01", "\ud800 alone", "<img src=x onerror=alert(1)>", "x" * 100_000,
     "\u202egnirts a\u202c", "a\nb\tc", "🎸"],
    ids=["empty", "NUL", "surrogate", "markup", "long", "reversed", "lines", "emoji"],
)  # fmt: skip
def test_every_text_is_searched_for_and_comes_back_as_it_is(text):
    index = [*SENTENCES, text]

    async def test(client):
        answer = await client.post(SEARCH, json={"query": text, "k": 1})
        assert answer.status == 200
        [hit] = (await answer.json())["hits"]
        assert hit["text"] == text
        assert hit["cosine"] == 1.0

    with_client(test, side_of(index))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("nothing", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        (b'{"query": "\xff"}', "expected JSON"),
        ("[]", "expected a JSON object"),
        ({}, "query: expected a text, received null"),
        ({"query": 5}, "query: expected a text, received 5"),
        ({"query": "x", "k": 0}, "k: expected 1 to 100, received 0"),
        ({"query": "x", "k": 101}, "k: expected 1 to 100, received 101"),
        ({"query": "x", "k": True}, "k: expected 1 to 100, received true"),
        ({"query": "x", "k": 2.5}, "k: expected 1 to 100, received 2.5"),
        ('{"query": "x", "k": 1' + "0" * 5000 + "}", "expected JSON"),
        ('{"query": "x", "threshold": NaN}', "expected JSON"),
        ({"query": "x", "threshold": 1.5}, "threshold: expected -1 to 1, received 1.5"),
        ({"query": "x", "threshold": "high"}, "threshold: expected -1 to 1"),
        ({"query": "x", "where": 5}, "where: expected a text, received 5"),
        ({"query": "x", "filter": ""}, 'k, threshold, where, received "filter"'),
        ({"query": "x" * 200_001}, "at most 200,000 characters, received 200,001"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_request_that_cannot_be_is_refused_in_one_line(body, message):
    status, error = refusal(body)
    assert status == 400
    assert message in error
    assert "\n" not in error


def test_what_is_no_json_by_its_type_is_refused():
    for headers in ({"Content-Type": "text/plain"}, {**JSON, "Content-Encoding": "x"}):
        assert refusal({"query": "x"}, headers=headers)[0] == 400


def test_a_body_beyond_the_limit_is_refused():
    status, _ = refusal(b" " * (requests.LARGEST_BODY + 1))
    assert status == 413


def test_other_paths_and_sides_are_not_found():
    async def test(client):
        for path in ("1/search", "-1/search", "x/search", "0/frobnicate"):
            url = f"/api/sides/{path}"
            assert (await client.post(url, json={"query": "x"})).status == 404
        for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/app.py"):
            assert (await client.get(path)).status == 404
        assert (await client.get(SEARCH)).status == 405

    with_client(test)


def test_only_the_page_itself_may_ask():
    async def test(client):
        own = f"http://127.0.0.1:{client.port}"
        for headers, status in [
            ({}, 200),
            ({"Origin": own}, 200),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://["}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
        ]:
            body = {"query": "x"}
            answer = await client.post(SEARCH, json=body, headers=headers)
            assert answer.status == status, headers
            assert "Access-Control-Allow-Origin" not in answer.headers
        # A link to the page works from everywhere.
        cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert (await client.get("/", headers=cross)).status == 200

    with_client(test)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8600", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8600", 200),
        ("[::1]:8600", 200),
        ("192.168.1.7", 200),
        ("demo.example:80", 200),
        ("rebound.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_a_name_that_was_rebound_to_this_machine_is_refused(host, status):
    async def test(client):
        for path in ("/", "/api/sides"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status == status

    with_client(test)


def test_every_answer_forbids_what_the_page_does_not_need():
    async def test(client):
        for path in ("/", "/static/page.js", "/api/sides", "/nothing"):
            headers = (await client.get(path)).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"

    with_client(test)


def test_the_page_has_its_files_and_names_no_other_place():
    async def test(client):
        for path in STATIC.iterdir():
            url = "/" if path.suffix == ".html" else f"/static/{path.name}"
            answer = await client.get(url)
            assert answer.status == 200
            assert answer.content_type.split("/")[1][:3] in path.name + "javascript"
            text = (await answer.text()).replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text
            assert "innerHTML" not in text
            assert " style=" not in text
            assert " onclick=" not in text

    with_client(test)


def test_a_server_that_is_away_is_told_in_one_line_until_it_is_back():
    side = side_of(SENTENCES)
    side.model.away = "cannot reach the server at 127.0.0.1:1:\nUNAVAILABLE"

    async def test(client):
        answer = await client.post(SEARCH, json={"query": "x"})
        assert answer.status == 503
        told = {"error": "cannot reach the server at 127.0.0.1:1: UNAVAILABLE"}
        assert await answer.json() == told
        side.model.away = ""
        assert (await client.post(SEARCH, json={"query": "x"})).status == 200

    with_client(test, side)


def test_a_defect_is_logged_and_not_shown(monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("secret")

    monkeypatch.setattr(MemoryIndex, "search", fail)
    status, error = refusal({"query": "x"})
    assert status == 500
    assert "secret" not in error
    assert "secret" in caplog.text


def test_closing_the_page_closes_its_models():
    side = side_of(SENTENCES)

    async def test(client):
        assert side.model.away == ""

    with_client(test, side)
    assert side.model.away == "closed"
