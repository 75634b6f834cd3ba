"""The answers of the OpenAI API: every bit of an embedding comes through."""

import base64
import json

import numpy as np
import pytest

from simcse_tf.openai_api import answers
from simcse_tf.openai_api.embeddings_request import EmbeddingsRequest


def answer(embeddings, **fields):
    request = EmbeddingsRequest(model='a "model"', input="a", **fields)
    pieces = list(answers.pieces(request, embeddings, tokens=7))
    return json.loads(b"".join(pieces)), len(pieces)


def any_floats(count):
    """Of every size and sign, subnormal ones too."""
    bits = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    floats = bits.view(np.float32)
    floats[:8] = [0, 1, -1, 1e-45, 3.4e38, 1e-7, 123456792, 0.1]
    return np.where(np.isfinite(floats), floats, np.float32(0.5))


@pytest.mark.parametrize("piece", [1, 100, 2**20])
def test_numbers_come_through_exactly(monkeypatch, piece):
    monkeypatch.setattr(answers, "PIECE_NUMBERS", piece)
    embeddings = any_floats(60_000).reshape(600, 100)
    value, pieces = answer(embeddings)
    assert pieces == max(60_000 // max(piece, 100), 1)
    assert [one["index"] for one in value["data"]] == [*range(600)]
    assert {one["object"] for one in value["data"]} == {"embedding"}
    read = np.array([one["embedding"] for one in value["data"]]).astype(np.float32)
    np.testing.assert_array_equal(read, embeddings)
    assert value["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert (value["object"], value["model"]) == ("list", 'a "model"')


def test_base64_is_little_endian_float32():
    embeddings = any_floats(300).reshape(3, 100)
    value, _ = answer(embeddings.astype(">f4"), encoding_format="base64")
    read = [base64.b64decode(one["embedding"]) for one in value["data"]]
    assert b"".join(read) == embeddings.astype("<f4").tobytes()


def test_rows_of_another_array_are_its_rows():
    embeddings = any_floats(300).reshape(3, 100)[:, :10]
    value, _ = answer(embeddings)
    read = np.array([one["embedding"] for one in value["data"]], np.float32)
    np.testing.assert_array_equal(read, embeddings)
