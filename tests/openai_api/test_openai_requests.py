"""The requests of the OpenAI API: what is read, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.any_json import bodies

from simcse_tf.openai_api.backend import check_supported, describe
from simcse_tf.openai_api.embeddings_request import MOST_INPUTS, parse_request
from simcse_tf.openai_api.errors import ApiError

FIELDS = ["model", "input", "encoding_format", "dimensions", "user"]
FIELDS += ["input_type", "truncate", "x"]


def parse(**fields):
    return parse_request(json.dumps({"model": "m", "input": "a", **fields}).encode())


def refusal(body):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        parse_request(body)
    return caught.value


def test_one_text_and_many_are_texts():
    assert parse(input="a").input == ["a"]
    assert parse(input=["a", "", "ä"]).input == ["a", "", "ä"]
    assert parse(input="").input == [""]
    assert len(parse(input=["a"] * MOST_INPUTS).input) == MOST_INPUTS


def test_null_is_no_value():
    names = set(FIELDS) - {"model", "input", "x"}
    assert parse(**dict.fromkeys(names)) == parse()


def test_byte_order_mark_is_skipped():
    assert parse_request(b'\xef\xbb\xbf{"model": "m", "input": "a"}').input == ["a"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": []}, "input", "received an empty list"),
        ({"input": ["a"] * (MOST_INPUTS + 1)}, "input", "2049: send them in several"),
        ({"input": [1, 2]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a", 1]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a", None]}, "input", "another value at place 1"),
        ({"input": [[]]}, "input", "another value at place 0"),
        ({"input": {"text": "a"}}, "input", "a string or a list of strings"),
        ({"input": None}, "input", "a string or a list of strings"),
        ({"input": True}, "input", "a string or a list of strings"),
        ({"model": ""}, "model", "at least 1 character"),
        ({"model": 1}, "model", "valid string"),
        ({"encoding_format": "int8"}, "encoding_format", "'float' or 'base64'"),
        ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"dimensions": "8"}, "dimensions", "valid integer"),
        ({"dimensions": True}, "dimensions", "valid integer"),
        ({"dimensions": 8.0}, "dimensions", "valid integer"),
        ({"input_type": "passage"}, "input_type", "'query' or 'document'"),
        ({"truncate": "false"}, "truncate", "valid boolean"),
        ({"user": 1}, "user", "valid string"),
        ({"dimension": 8}, "dimension", "unknown field 'dimension'"),
        ({"x" * 1000: 8}, None, "unknown field 'xxx"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:20],
)
def test_wrong_field_is_named(fields, param, words):
    error = refusal({"model": "m", "input": "a", **fields})
    assert (error.status, error.param) == (400, param)
    assert words in str(error)
    assert len(str(error)) < 500
    told = json.loads(error.body())["error"]
    assert told.keys() == {"message", "type", "param", "code"}
    assert told["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 10_000,
        b'{"model": "m", "input": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'["a"]',
        b"null",
        b'{"model": "m"}',
        b'{"input": "a"}',
        b'{"model": "m", "input": "\\ud800"}',
        b'{"model": "m", "input": "\xff"}',
        b'{"model": "m", "input": "a"} {}',
        b'{"model": "m", "input": "a", "dimensions": ' + b"9" * 10_000 + b"}",
        b'{"model": "m", "input": NaN}',
    ],
    ids=range(13),
)
def test_other_bodies_are_refused(body):
    assert refusal(body).status == 400


@settings(max_examples=40, deadline=None)
@given(bodies(FIELDS))
def test_any_json_is_a_request_or_a_mistake(document):
    # NaN and half surrogate pairs among it.
    body = json.dumps(document).encode()
    try:
        request = parse_request(body)
    except ApiError as error:
        assert error.status == 400
        json.loads(error.body())
        assert str(error).isprintable()
    else:
        given = document["input"]
        assert request.input == ([given] if isinstance(given, str) else given)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_mistake(body):
    assert refusal(body).status == 400


def test_model_says_what_it_has():
    widths = {"serving_tokens": 384, "serving_128": 128, "serving_int8": 1}
    plain = describe("m", 3, widths)
    assert plain.dimensions == (128, 384)
    check_supported(parse(dimensions=128), plain)
    for fields, words in (
        ({"dimensions": 64}, "model m has 128, 384, received 64"),
        ({"input_type": "query"}, "no prompts"),
    ):
        with pytest.raises(ApiError, match=words):
            check_supported(parse(**fields), plain)
    roles = {f"serving_{role}_tokens": 384 for role in ("query", "document")}
    check_supported(parse(input_type="query"), describe("m", 3, widths | roles))
    with pytest.raises(ApiError, match="export the model again"):
        describe("m", 3, {"serving_default": 384})
