"""A model as a function of sentences: its dimensions, and the sides of a search."""

import numpy as np
import pytest
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.encoding.model_encoder import ModelEncoder, load_encoder
from simcse_tf.evaluation import retrieval
from simcse_tf.evaluation.caching import CachingEncoder
from simcse_tf.evaluation.own_sets import RetrievalSet, measure_sets

PROMPTS = {"query": "a man: ", "document": "the "}


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), pooling="avg", prompts=PROMPTS)


def test_the_sides_of_a_search_have_their_prompts(model):
    encode = ModelEncoder(model)
    for role, prompt in PROMPTS.items():
        texts = [prompt + text for text in SENTENCES]
        np.testing.assert_allclose(
            encode.of_role(role)(SENTENCES), encode(texts), atol=1e-6
        )
    assert model.prompt == ""
    assert encode.of_role("topic") is encode
    # One prompt was asked for, before every text.
    plain = ModelEncoder(model, roles=False)
    assert plain.of_role("query") is plain
    # Or the sides have others than the model's.
    given = ModelEncoder(model, roles={"query": PROMPTS["document"]})
    np.testing.assert_array_equal(
        given.of_role("query")(SENTENCES), encode.of_role("document")(SENTENCES)
    )
    assert given.of_role("document") is given


def test_an_encoder_without_sides_is_the_same_for_both():
    encode = CachingEncoder(lambda texts: np.ones([len(texts), 2]))
    assert encode.of_role("query") is encode


@pytest.fixture
def sides():
    """What finds a text's answer only if each side is encoded as such."""

    class Sides:
        def __init__(self, role="", seen=None):
            self.role = role
            self.seen = [] if seen is None else seen

        def __call__(self, texts):
            self.seen += [(self.role, text) for text in texts]
            places = [int(text[-1]) for text in texts]
            shift = {"query": 0, "document": 1, "": 2}[self.role]
            return np.eye(4)[[(place + shift) % 4 for place in places]]

        def of_role(self, role):
            return Sides(role, self.seen)

    return Sides()


def test_retrieval_encodes_queries_and_documents_as_such(sides):
    documents = {f"d{n}": f"text {n}" for n in range(4)}
    relevant = {f"q{n}": {f"d{n}": 1} for n in range(1, 4)}
    queries = {f"q{n}": f"query {n + 1 if n < 3 else 0}" for n in range(1, 4)}
    own = RetrievalSet(queries, documents, relevant)
    scores = measure_sets(sides, {"mine": own})
    assert scores["mine:mrr@10"].tolist() == [1.0, 1.0, 1.0]
    assert {role for role, _ in sides.seen} == {"query", "document"}
    [example] = retrieval.examples({"m": sides}, ["q 1"], list(documents.values()), 1)
    assert example.hits["m"][0].sentence == "text 0"


def test_the_first_dimensions_are_kept_at_unit_length(tiny_preset, model):
    whole = ModelEncoder(model)(SENTENCES)
    cut = load_encoder(str(tiny_preset), pooling="avg", truncate_dim=3)(SENTENCES)
    expected = whole[:, :3] / np.linalg.norm(whole[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)
