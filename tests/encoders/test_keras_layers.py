"""KerasHub's layers as the encoder: static shapes, XLA, and Keras' private names."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.distributed.collectives import expect_summed_gradients
from simcse_tf.encoders import dropout
from simcse_tf.model import compilation
from simcse_tf.training.optimizer import adam

pytestmark = pytest.mark.keras


def losses(preset, **compile_options):
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(
        str(preset), dropout=0.0, max_length=16, static_shapes=True
    )
    model.compile(adam(1e-3), **compile_options)
    history = model.fit(SENTENCES, batch_size=8, epochs=4, shuffle=False, verbose=0)
    return history.history["loss"]


# Twenty steps, and dropout, are compared in test_compilation.py.
@pytest.mark.attack
def test_a_step_of_static_shapes_compiles_with_xla(tiny_preset):
    """As `training.strategy: tpu` runs it."""
    compiled = losses(tiny_preset, jit_compile=True)
    np.testing.assert_allclose(compiled, losses(tiny_preset), rtol=1e-3)
    assert compiled[-1] < compiled[0]


@pytest.mark.attack
def test_an_xla_step_with_dropout_draws_other_masks_every_time(tiny_preset):
    model = SimCSE.from_preset(
        str(tiny_preset), dropout=0.3, max_length=16, static_shapes=True
    )
    model.compile(keras.optimizers.SGD(0.0), jit_compile=True)
    batch = model.prepare(tf.constant(SENTENCES))
    seen = {float(model.train_on_batch(batch)) for _ in range(3)}
    assert len(seen) == 3


def test_on_a_tpu_shapes_are_static(tiny_preset, monkeypatch):
    monkeypatch.setattr(compilation, "on_tpu", lambda: True)
    model = SimCSE.from_preset(str(tiny_preset), max_length=32)
    assert model.static_shapes
    assert model.preprocess(["A man."])["token_ids"].shape == (1, 32)


def test_gradients_that_keras_would_sum_twice_are_an_error():
    with pytest.raises(RuntimeError, match="sums gradients .*known to work"):
        expect_summed_gradients(object())
    expect_summed_gradients(keras.optimizers.SGD(0.1))


def test_masks_that_no_seed_decides_are_an_error(monkeypatch):
    monkeypatch.setattr(dropout, "random_states", lambda layer: [])
    with pytest.raises(RuntimeError, match="does not draw dropout masks"):
        dropout.check_keras_dropout.__wrapped__()
