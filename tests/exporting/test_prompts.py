"""Prompts for the two sides of a search: in training, and in an export."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.exports import unchecked
from support.models import SENTENCES
from support.searching import build_index
from support.servers import assert_one_line_mistake, run_here

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.export import main
from simcse_tf.exporting.check import check, summary
from simcse_tf.exporting.manifest import ExportedIndex, read_manifest
from simcse_tf.exporting.saved_model import export
from simcse_tf.exporting.signatures import signatures
from simcse_tf.indexing.querying import search_texts
from simcse_tf.training.config import parse_config

PROMPTS = {"query": "a man: ", "document": "a "}


def test_only_a_search_has_signatures_of_its_own():
    names = [each.name for each in signatures(8, prompts={"topic": "about: "})]
    assert names == ["serving_default", "similarity", "ready", "serving_tokens"]
    found = signatures(8, prompts={"query": "q: "})[len(names) :]
    # Documents have no prompt of their own here.
    assert {each.name: each.prompt for each in found} == {
        "serving_query": "q: ",
        "serving_document": None,
        "serving_query_tokens": "q: ",
        "serving_document_tokens": None,
    }


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(
        str(tiny_preset), max_length=16, prompts=PROMPTS, prompt="the "
    )


@pytest.fixture(scope="module")
def index(model, tmp_path_factory):
    texts = [f"{text} {n}" for n in range(3) for text in SENTENCES]
    directory = tmp_path_factory.mktemp("index") / "index"
    return build_index(model, directory, texts, dtype="int8")


@pytest.fixture(scope="module")
def exported(model, index, tmp_path_factory):
    with unchecked():
        return export(model, str(tmp_path_factory.mktemp("export")), index=index)


@pytest.fixture(scope="module")
def sound(exported):
    return check(exported)


@pytest.mark.slow
def test_an_export_has_a_signature_for_each_side(model, exported, sound, tiny_preset):
    assert sound.records == 36  # 4 batches to 9 signatures
    served = tf.saved_model.load(str(exported)).signatures
    texts = tf.constant(SENTENCES)
    plain = SimCSE.from_preset(str(tiny_preset), max_length=16)
    for name, prompt in {
        "serving_query": PROMPTS["query"],
        "serving_document": PROMPTS["document"],
        "serving_default": "the ",
    }.items():
        expected = plain.predict([prompt + text for text in SENTENCES], verbose=0)
        received = served[name](text=texts)["embedding"]
        np.testing.assert_allclose(received, expected, atol=1e-6)
        with_counts = served[f"{name.removesuffix('_default')}_tokens"](text=texts)
        np.testing.assert_array_equal(with_counts["embedding"], received)
        counts = [len(row) for row in plain.tokenize([prompt + s for s in SENTENCES])]
        assert with_counts["tokens"].numpy().tolist() == counts
    assert model.prompt == "the "


@pytest.mark.slow
def test_an_index_inside_is_searched_behind_the_prompt_for_queries(
    model, index, exported
):
    found = tf.saved_model.load(str(exported)).signatures["search"](
        text=tf.constant(SENTENCES), k=tf.fill([len(SENTENCES)], 5)
    )
    expected = search_texts(index, ModelEncoder(model), SENTENCES, 5)
    cosines = [[hit.cosine for hit in hits] for hits in expected]
    np.testing.assert_allclose(found["cosines"], cosines, atol=3e-6)
    texts = {text.encode() for text in index.texts(np.arange(index.rows))}
    assert texts >= {*found["texts"].numpy().ravel().tolist()}


@pytest.mark.slow
def test_the_manifest_says_which_index_and_which_model(model, index, exported, sound):
    manifest = read_manifest(exported)
    fingerprint = model_fingerprint(model)
    assert manifest.model.fingerprint == index.manifest.fingerprint == fingerprint
    file = (index.directory / "manifest.json").read_bytes()
    assert manifest.index == ExportedIndex(
        source=str(index.directory),
        digest=hashlib.sha256(file).hexdigest(),
        rows=3 * len(SENTENCES),
        dimensions=16,
        vectors="int8",
        has_metadata=False,
    )
    assert f"{index.directory}, 24 rows" in summary(exported, sound)


def test_another_models_index_is_refused_before_anything_is_written(
    tiny_preset, index, tmp_path
):
    other = SimCSE.from_preset(str(tiny_preset), max_length=8)
    with pytest.raises(UserError) as refused:
        export(other, str(tmp_path / "served"), index=index, source="other")
    ours, others = index.manifest.fingerprint[:12], model_fingerprint(other)[:12]
    for part in ("--index: ", "built with the model", ours, "received other", others):
        assert part in str(refused.value)
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--index", "{here}"], "--index: {here}: expected an index"),
        (["--index", "{index}", "--precision", "bfloat16"], "expected float32 with"),
        (
            ["--index", "{index}", "--format", "sentence-transformers"],
            "--index is a signature of a SavedModel",
        ),
    ],
    ids=["no index", "bfloat16", "sentence-transformers"],
)
def test_an_index_that_cannot_be_inside_is_one_line(
    flags, message, index, tmp_path, capsys
):
    places = {"here": tmp_path, "index": index.directory}
    flags = [flag.format(**places) for flag in flags]
    output = tmp_path / "served"
    done = run_here(main, capsys, "--model", "none", "--output", output, *flags)
    assert_one_line_mistake(done, message.format(**places))


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
