"""What settings decide: in `predict`, `encode`, exports, training and presets."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.checkpoints.own_format import HEAD_FILE, SETTINGS_FILE
from simcse_tf.core.errors import UserError
from simcse_tf.exporting.served_embedder import embedder
from simcse_tf.model.bulk import encode
from simcse_tf.objectives.views import stack_views

DENSE = (
    {"units": 12, "activation": "relu"},
    {"units": 5, "activation": "identity", "use_bias": False},
)
PROMPT = "a man said: "


def load(preset, **settings):
    keras.utils.set_random_seed(1)
    return SimCSE.from_preset(str(preset), **{"max_length": 32, **settings})


def all_ways(model):
    """A model's embeddings from every way to get them."""
    return {
        "predict": model.predict(SENTENCES, verbose=0),
        "of a data set": model.predict(
            tf.data.Dataset.from_tensor_slices(SENTENCES), verbose=0
        ),
        "call": model(model.preprocess(tf.constant(SENTENCES))).numpy(),
        "encode": encode(model, SENTENCES),
        "export": embedder(model)(tf.constant(SENTENCES)).embedding.numpy(),
    }


def assert_same(received, expected):
    for way, embeddings in received.items():
        np.testing.assert_allclose(embeddings, expected, atol=2e-6, err_msg=way)


# === Prompts ===


# As test_prompts.py exports them.
@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_a_prompt_stands_before_every_text(tiny_preset):
    plain, prompted = load(tiny_preset), load(tiny_preset, prompt=PROMPT)
    texts = [PROMPT + text for text in SENTENCES]
    assert_same(all_ways(prompted), plain.predict(texts, verbose=0))
    assert prompted.tokenize(SENTENCES) == plain.tokenize(texts)
    prepared = (prompted.prepare(SENTENCES, SENTENCES), plain.prepare(texts, texts))
    for one, other in zip(
        *map(tf.nest.flatten, map(stack_views, prepared)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_prompt_counts_when_a_text_is_cut(tiny_preset):
    model = load(tiny_preset, prompt=PROMPT, max_length=7)
    prompt = [101, 1037, 2158, 2056, 1024]
    assert model.tokenize(["", "man man"]) == [[*prompt, 102], [*prompt, 2158, 102]]


def test_a_prompt_that_leaves_no_room_is_told(tiny_preset):
    with pytest.raises(UserError, match="alone fills max_length, 6 tokens"):
        load(tiny_preset, prompt=PROMPT, max_length=6)


def test_a_prompt_that_is_set_later_counts_from_then_on(tiny_preset):
    model = load(tiny_preset, prompts={"query": "a "})
    before = model.tokenize(["man"])
    model.prompt = model.prompts["query"]
    assert model.tokenize(["man"]) == [[101, 1037, 2158, 102]] != before
    with pytest.raises(UserError, match="prompt must be a string; received None"):
        model.prompt = None


# === Heads ===


# As test_exported_families.py exports them.
@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_dense_layers_are_the_head_wherever_embeddings_are_made(tiny_preset, tmp_path):
    model = load(tiny_preset, pooling="avg", dense=DENSE, head_init="random")
    assert model.embedding_dim == 5
    pooled = load(tiny_preset, pooling="avg")
    features = pooled.preprocess(tf.constant(SENTENCES))
    first, bias, second = model.head.get_weights()
    expected = np.maximum(pooled(features, normalize=False) @ first + bias, 0) @ second
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert_same(all_ways(model), expected)
    assert model.predict([], verbose=0).shape == (0, 5)

    model.save_to_preset(str(tmp_path / "saved"))
    assert list(load_file(tmp_path / "saved" / HEAD_FILE)) == [
        "dense_0.bias",
        "dense_0.kernel",
        "dense_1.kernel",
    ]
    loaded = SimCSE.from_preset(str(tmp_path / "saved"))
    assert_same(all_ways(loaded), expected)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_dense_layers_are_trained(tiny_preset):
    model = load(tiny_preset, pooling="avg", dense=DENSE, head_init="random")
    before = model.head.get_weights()
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(SENTENCES, batch_size=8, epochs=2, verbose=0)
    for one, other in zip(before, model.head.get_weights(), strict=True):
        assert np.abs(one - other).max() > 1e-3


@pytest.mark.slow
def test_a_head_for_training_only_leaves_the_pooled_dimensions(tiny_preset):
    model = load(
        tiny_preset,
        pooling="avg",
        dense=DENSE,
        head_init="random",
        head_in_inference=False,
    )
    features = model.preprocess(tf.constant(SENTENCES))
    assert model(features).shape == (8, 16)
    assert model.embedding_dim == 16
    assert model(features, training=True).shape == (8, 5)
    model.head_in_inference = True
    assert model.embedding_dim == 5


def test_dense_layers_of_a_checkpoint_keep_their_weights(tiny_preset, tmp_path):
    """`head_init` random, the default of a training config, is for the paper's head."""
    model = load(tiny_preset, pooling="avg", dense=DENSE, head_init="random")
    model.save_to_preset(str(tmp_path / "saved"))
    loaded = load(tmp_path / "saved", head_init="random")
    for one, other in zip(
        model.head.get_weights(), loaded.head.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_two_encoders_each_have_dense_layers(tiny_preset):
    model = load(
        tiny_preset, pooling="max", dense=DENSE, head_init="random", encoders="dual"
    )
    one, other = model.heads()
    assert one is model.head
    assert np.abs(one.get_weights()[0] - other.get_weights()[0]).max() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "cls", "dense": DENSE}, "take cls_before_pooler with dense"),
        ({"pooling": "cls+max"}, "stands alone"),
        ({"activation": "gelo"}, "activation must be one of"),
    ],
)
def test_settings_that_do_not_fit_are_told(tiny_preset, settings, message):
    with pytest.raises(UserError, match=message):
        load(tiny_preset, **settings)


def test_a_saved_head_that_does_not_fit_is_told(tiny_preset, tmp_path):
    model = load(tiny_preset, pooling="avg", dense=DENSE, head_init="random")
    model.save_to_preset(str(tmp_path / "saved"))
    with pytest.raises(UserError, match=r"does not fit: expected .*\(32, 12\)"):
        load(tmp_path / "saved", pooling="avg+max")


# === Combinations of poolers ===


@pytest.mark.slow
def test_a_combination_concatenates_in_the_order_of_its_names(small_preset):
    names = ("max", "cls_before_pooler", "avg_top2")
    model = load(small_preset, pooling="+".join(names))
    assert model.embedding_dim == 3 * 16
    features = model.preprocess(tf.constant(SENTENCES))
    expected = np.concatenate(
        [load(small_preset, pooling=name)(features, normalize=False) for name in names],
        axis=1,
    )
    np.testing.assert_allclose(model(features, normalize=False), expected, atol=1e-5)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert_same(all_ways(model), expected)


# === Settings on disk ===


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_all_settings_come_back_from_a_preset_and_from_a_config(tiny_preset, tmp_path):
    settings = {
        "pooling": "weightedmean+lasttoken",
        "head_in_inference": True,
        "max_length": 20,
        "activation": "relu",
        "layer_norm_epsilon": 1e-3,
        "dense": [dict(DENSE[1])],
        "prompt": "q: ",
        "prompts": {"query": "q: ", "passage": "p ünd: "},
    }
    model = load(tiny_preset, head_init="random", **settings)
    assert model.settings() == settings
    expected = model.predict(SENTENCES, verbose=0)
    model.save_to_preset(str(tmp_path / "saved"))
    loaded = SimCSE.from_preset(str(tmp_path / "saved"))
    assert loaded.settings() == settings
    assert_same(all_ways(loaded), expected)
    config = json.loads(json.dumps(model.get_config()))
    assert SimCSE.from_config(config).settings() == settings
    # They matter: another epsilon gives other numbers.
    other = load(tmp_path / "saved", layer_norm_epsilon=1e-12)
    assert np.abs(other.predict(SENTENCES, verbose=0) - expected).max() > 1e-4


def test_what_an_older_release_wrote_means_the_same(tiny_preset, tmp_path):
    load(tiny_preset).save_to_preset(str(tmp_path / "old"))
    file = tmp_path / "old" / SETTINGS_FILE
    old = {"pooling": "cls", "head_in_inference": True, "max_length": 32}
    for exact_gelu, activation in ((True, "gelu"), (False, None)):
        file.write_text(json.dumps({**old, "exact_gelu": exact_gelu}))
        assert SimCSE.from_preset(str(tmp_path / "old")).activation == activation


def test_a_setting_of_a_newer_release_is_named(tiny_preset, tmp_path):
    load(tiny_preset).save_to_preset(str(tmp_path / "new"))
    file = tmp_path / "new" / SETTINGS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "whitening": 1}))
    with pytest.raises(UserError, match="unknown setting whitening: .*newer"):
        SimCSE.from_preset(str(tmp_path / "new"))
