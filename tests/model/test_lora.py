import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.keras_layers import (
    KerasLayersEncoder,
    dense_of,
    transformer_layers,
)
from simcse_tf.model.lora import TARGETS, enable_lora
from simcse_tf.training import checkpoint
from simcse_tf.training.progress import Progress


def adapted(preset, rank=4, alpha=None, targets=("query", "value"), **settings):
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(str(preset), max_length=32, **settings)
    enable_lora(model, rank, alpha, targets)
    return model


def trained(model, steps=2):
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    for _ in range(steps):
        model.train_on_batch(SENTENCES)
    return model


def change_all(model):
    """Gives what is trained other values, as zeros pass no gradient on."""
    draw = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape, scale=0.3))


def test_a_step_changes_the_small_matrices_and_the_head_alone(tiny_preset):
    model = adapted(tiny_preset)
    before = {variable.path: variable.numpy() for variable in model.variables}
    plain = SimCSE.from_preset(str(tiny_preset), max_length=32)
    np.testing.assert_array_equal(model(SENTENCES), plain(SENTENCES))

    trained(model)
    changed = {
        variable.path
        for variable in model.weights
        if not np.array_equal(variable.numpy(), before[variable.path])
    }
    attention = "transformer_layer_0/self_attention_layer"
    small = {
        f"{attention}/{name}/lora_kernel_{part}"
        for name in ("query", "value")
        for part in "ab"
    }
    assert changed == {*small, "head/kernel", "head/bias"}
    # Adam's two moments of each of them, its step and its rate.
    assert len(model.optimizer.variables) == 2 * 6 + 2


def test_the_plain_encoder_computes_and_differentiates_what_keras_layers_do(
    tiny_preset,
):
    model = adapted(tiny_preset, alpha=2.0, targets=TARGETS, pooling="avg")
    change_all(model)
    features = model.preprocess(tf.constant(SENTENCES))
    towards = np.random.default_rng(6).normal(size=(8, 1, 16))
    found = []
    for encoder in (model.embedder.encoder, KerasLayersEncoder(model.backbone, [-1])):
        with tf.GradientTape() as tape:
            [states] = encoder.hidden_states(encoder.weights(), features)
            mask = tf.cast(features["padding_mask"], tf.float32)[:, :, None]
            loss = tf.reduce_sum(states * mask * np.float32(towards))
        variables = model.trainable_variables
        assert len(variables) == 2 * len(TARGETS)
        found.append([states * mask, *tape.gradient(loss, variables)])
    for one, other in zip(*found, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_a_saved_model_is_an_ordinary_one_that_half_precision_does_not_round(
    tiny_preset, tmp_path
):
    dtype = "mixed_bfloat16"
    model = adapted(tiny_preset, targets=TARGETS, dtype=dtype)
    change_all(model)
    model.save_to_preset(str(tmp_path / "saved"))
    expected = model.predict_on_batch(SENTENCES)
    plain = SimCSE.from_preset(str(tiny_preset), max_length=32, dtype=dtype)
    assert np.abs(plain.predict_on_batch(SENTENCES) - expected).max() > 0.1

    merged = SimCSE.from_preset(str(tmp_path / "saved"), dtype=dtype)
    np.testing.assert_allclose(merged.predict_on_batch(SENTENCES), expected, atol=1e-6)
    assert len(merged.weights) == len(plain.weights)
    assert len(merged.trainable_variables) == len(plain.trainable_variables)
    # KerasHub's alone loads it, and finds the sums unrounded.
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "saved"))
    assert len(backbone.weights) == len(plain.backbone.weights)
    saved, layer = (
        dense_of(transformer_layers(each)[0])["intermediate"]
        for each in (backbone, model.backbone)
    )
    exact = layer._kernel + layer.lora_kernel_a @ layer.lora_kernel_b
    np.testing.assert_array_equal(saved.kernel, exact)


def test_a_run_resumes_exactly(tiny_preset, tmp_path):
    model = trained(adapted(tiny_preset), steps=1)
    checkpoint.save(str(tmp_path), model, Progress(1, 8))
    merged = SimCSE.from_preset(str(tmp_path / "last"))
    np.testing.assert_allclose(merged(SENTENCES), model(SENTENCES), atol=1e-6)
    again = trained(adapted(tiny_preset), steps=0)
    checkpoint.restore(str(tmp_path), again)
    losses = [each.train_on_batch(SENTENCES) for each in (model, again)]
    assert losses[0] == losses[1]
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    other_rank = trained(adapted(tiny_preset, rank=3), steps=0)
    with pytest.raises(UserError, match="the checkpoint of another model"):
        checkpoint.restore(str(tmp_path), other_rank)


def test_both_of_two_encoders_are_adapted(tiny_preset):
    model = adapted(tiny_preset, encoders="dual")
    before = [variable.numpy() for variable in model.trainable_variables]
    assert len(before) == 2 * 6
    trained(model)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(variable.numpy(), old), variable.path


def test_a_copy_of_an_adapted_encoder_embeds_as_it_does(tiny_preset):
    model = adapted(tiny_preset, alpha=8.0, pooling="avg")
    change_all(model)
    np.testing.assert_array_equal(model.copied()(SENTENCES), model(SENTENCES))


def test_what_cannot_be_adapted_is_told_in_one_line(tiny_preset):
    model = adapted(tiny_preset)
    with pytest.raises(UserError, match="LoRA is enabled already"):
        enable_lora(model, 4)
    with pytest.raises(UserError, match="expected some of query, key.*received keys"):
        enable_lora(model, 4, targets=["keys"])
    with pytest.raises(UserError, match="received none"):
        enable_lora(model, 4, targets=[])
    with pytest.raises(UserError, match="expected it before compile"):
        enable_lora(trained(model, steps=0), 4)
