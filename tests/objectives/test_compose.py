"""Objectives compose: two may be added, and one may wrap another."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.objectives.base import Objective
from simcse_tf.objectives.contrastive import Contrastive, contrastive_loss
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.training.config_sections import ObjectiveConfig
from simcse_tf.training.objective import objective_of

EMBEDDINGS = tf.random.stateless_normal([2, 6, 8], [1, 2])


class FirstHalf(Objective):
    """An objective of the first half of the dimensions: what wraps looks like."""

    def __init__(self, inner):
        self.inner = inner

    def embedding_loss(self, embeddings, targets):
        half = embeddings[..., : embeddings.shape[-1] // 2]
        return self.inner.embedding_loss(half, targets)

    def get_config(self):
        return {"inner": keras.saving.serialize_keras_object(self.inner)}


def test_a_sum_adds_the_losses():
    both = Contrastive(0.1) + Contrastive(1.0)
    expected = sum(contrastive_loss(*EMBEDDINGS, temperature=t) for t in (0.1, 1.0))
    np.testing.assert_allclose(both.embedding_loss(EMBEDDINGS, {}), expected, rtol=1e-6)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_an_objective_may_wrap_another(tiny_preset):
    wrapped = FirstHalf(Contrastive())
    anchor, positive = EMBEDDINGS[..., :4]
    np.testing.assert_allclose(
        wrapped.embedding_loss(EMBEDDINGS, {}), contrastive_loss(anchor, positive)
    )
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(str(tiny_preset), dropout=0.0, pooling="avg")
    z = model.predict(SENTENCES, verbose=0)[:, :8]
    model.compile(keras.optimizers.SGD(0.0), objective=wrapped)
    logs = model.train_on_batch(model.prepare(SENTENCES), return_dict=True)
    np.testing.assert_allclose(logs["loss"], contrastive_loss(z, z), rtol=1e-5)


def test_a_model_compiled_again_trains_the_new_objectives_layers_only(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset))
    alone = len(model.trainable_variables)
    for _ in range(2):
        model.compile("adam", objective=Contrastive() + MaskedLM(0.1))
        assert len(model.trainable_variables) == alone + 5
    model.compile("adam", objective=Contrastive())
    assert len(model.trainable_variables) == alone


def test_kerases_own_file_keeps_the_objective(tiny_preset, tmp_path):
    model = SimCSE.from_preset(str(tiny_preset))
    model.compile("adam", objective=Contrastive(0.2, 0.5) + MaskedLM(0.1, 0.3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    config = loaded.objective.get_config()
    assert config == model.objective.get_config()
    assert config["first"]["config"]["hard_negative_weight"] == 0.5


@pytest.mark.parametrize("mlm_weight", [0.0, 0.1])
def test_a_config_names_its_objective(mlm_weight):
    config = ObjectiveConfig(
        temperature=0.1, hard_negative_weight=0.3, same_mask=True, mlm_weight=mlm_weight
    )
    objective = objective_of(config)
    assert objective.same_mask
    if mlm_weight:
        assert objective.second.get_config() == {"weight": 0.1, "probability": 0.15}
        objective = objective.first
    assert objective.get_config() == {
        "temperature": 0.1, "hard_negative_weight": 0.3, "same_mask": True,
        "mask_duplicates": True, "false_negative_margin": None, "guide": None,
        "negatives": [],
    }  # fmt: skip
