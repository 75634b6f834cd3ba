"""Prompts for the two sides of a search: in training, and in an export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.exporting.check import check
from simcse_tf.exporting.saved_model import export
from simcse_tf.exporting.signatures import signatures
from simcse_tf.training.config import parse_config

PROMPTS = {"query": "a man: ", "document": "a "}


def test_only_a_search_has_signatures_of_its_own():
    names = [each.name for each in signatures(8, prompts={"topic": "about: "})]
    assert names == ["serving_default", "similarity", "ready"]
    [*_, query, document] = signatures(8, prompts={"query": "q: "})
    assert (query.name, query.prompt) == ("serving_query", "q: ")
    # Documents have no prompt of their own here.
    assert (document.name, document.prompt) == ("serving_document", None)


@pytest.mark.slow
def test_an_export_has_a_signature_for_each_side(tiny_preset, tmp_path):
    model = SimCSE.from_preset(
        str(tiny_preset), max_length=16, prompts=PROMPTS, prompt="the "
    )
    version = export(model, str(tmp_path))
    assert check(version).records == 20  # 4 batches to 5 signatures
    served = tf.saved_model.load(str(version)).signatures
    texts = tf.constant(SENTENCES)
    for name, prompt in {
        "serving_query": PROMPTS["query"],
        "serving_document": PROMPTS["document"],
        "serving_default": "the ",
    }.items():
        plain = SimCSE.from_preset(str(tiny_preset), max_length=16)
        expected = plain.predict([prompt + text for text in SENTENCES], verbose=0)
        received = served[name](text=texts)["embedding"]
        np.testing.assert_allclose(received, expected, atol=1e-6)
    assert model.prompt == "the "


def test_training_puts_each_sides_prompt_before_its_texts(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset), prompts=PROMPTS)
    model.compile("adam", column_prompts=PROMPTS.values())
    batch = model.prepare(SENTENCES, SENTENCES, SENTENCES)
    plain = SimCSE.from_preset(str(tiny_preset))
    for name, prompt in zip(batch, ["a man: ", "a ", "a "], strict=False):
        wanted = plain.preprocess(tf.constant([prompt + s for s in SENTENCES]))
        np.testing.assert_array_equal(
            batch[name]["token_ids"], wanted["token_ids"], err_msg=name
        )
    with pytest.raises(UserError, match="received single sentences"):
        model.prepare(SENTENCES)
    model.max_length = 16
    with pytest.raises(UserError, match="alone fills max_length, 16 tokens"):
        model.compile("adam", column_prompts=["man " * 40, ""])


def test_kerases_own_file_keeps_the_prompts_of_training(tiny_preset, tmp_path):
    model = SimCSE.from_preset(str(tiny_preset), prompts=PROMPTS)
    model.compile("adam", column_prompts=list(PROMPTS.values()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert list(loaded.column_prompts) == ["a man: ", "a "]


def config(**model):
    return parse_config(
        {
            "model": {"preset": "p", **model},
            "data": {"train": "t.csv"},
            "output_dir": "o",
        }
    ).model


def test_a_config_names_prompts():
    model = config(prompts=PROMPTS)
    assert model.column_prompts(3) == ("a man: ", "a ")
    assert model.settings()["prompt"] == ""
    with pytest.raises(UserError, match="data.train holds single sentences: expected"):
        model.column_prompts(1)
    model = config(prompts={"query": "q: ", "all": "t: "}, prompt="all")
    assert model.column_prompts(2) == ("q: ", "t: ")
    assert model.column_prompts(1) is None
    assert model.settings()["prompt"] == "t: "
    assert config(prompts={"all": "t: "}, prompt="all").column_prompts(3) is None
    # The checkpoint's own are left alone.
    assert config().settings()["prompts"] is None
    with pytest.raises(UserError, match=r"expected a name of model.prompts \(query"):
        config(prompts={"query": "q: "}, prompt="other")
