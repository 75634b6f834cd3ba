"""An objective of the embeddings' first dimensions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.objectives.contrastive import Contrastive, contrastive_loss
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.objectives.matryoshka import Matryoshka
from simcse_tf.training.config_sections import ObjectiveConfig
from simcse_tf.training.objective import objective_of

VIEWS = np.random.default_rng(0).normal(size=(3, 7, 12))


def reference(views, dims, weights, t=0.05):
    """In float64: of each cut, rows of length 1 and the paper's softmax."""
    total = 0.0
    for dim, weight in zip(dims, weights, strict=True):
        cut = views[..., :dim]
        anchor, *others = cut / np.linalg.norm(cut, axis=-1, keepdims=True)
        exponentials = np.exp(anchor @ np.concatenate(others).T / t)
        own = np.diag(exponentials[:, : len(anchor)])
        total += weight * np.mean(np.log(exponentials.sum(axis=1) / own))
    return total


def test_the_loss_is_the_weighted_sum_over_the_cuts():
    views = tf.constant(VIEWS, tf.float32)
    for dims, weights in (([12, 5, 2], None), ([3, 8], [0.25, 2.0])):
        objective = Matryoshka(Contrastive(), dims, weights)
        expected = reference(VIEWS, dims, weights or [1.0] * len(dims))
        loss = objective.embedding_loss(views, {})
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_gradients_equal_central_differences():
    dims, weights = [12, 5, 2], [0.5, 1.0, 2.0]
    views = tf.constant(VIEWS, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(views)
        objective = Matryoshka(Contrastive(0.3), dims, weights)
        loss = objective.embedding_loss(views, {})
    gradient = tape.gradient(loss, views)
    for index in np.ndindex(3, 2, 12):
        step = np.zeros(VIEWS.shape)
        step[index] = 1e-5
        ahead, behind = (
            reference(VIEWS + moved, dims, weights, 0.3) for moved in (step, -step)
        )
        numeric = (ahead - behind) / 2e-5
        np.testing.assert_allclose(gradient[index], numeric, rtol=1e-3, atol=1e-5)


def test_all_dimensions_alone_are_the_objective_itself():
    views = tf.constant(VIEWS, tf.float32)
    np.testing.assert_allclose(
        Matryoshka(Contrastive(), [12]).embedding_loss(views, {}),
        contrastive_loss(*views),
        rtol=1e-6,
    )


def test_what_does_not_fit_is_told(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset))
    for dims in ([32, 8], [16, 0]):
        with pytest.raises(UserError, match=rf"from 1 to 16, .* received \[{dims[0]}"):
            model.compile("adam", objective=Matryoshka(Contrastive(), dims))
    for dims, weights in (([], None), ([8], [1.0, 2.0])):
        with pytest.raises(ValueError, match="as many weights"):
            Matryoshka(Contrastive(), dims, weights)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_it_trains_beside_a_masked_language_model_and_is_saved(tiny_preset, tmp_path):
    keras.utils.set_random_seed(3)
    config = ObjectiveConfig(
        matryoshka=[16, 4], matryoshka_weights=[1.0, 0.5], mlm_weight=0.1
    )
    objective = objective_of(config)
    assert isinstance(objective.first, Matryoshka)
    assert isinstance(objective.second, MaskedLM)
    model = SimCSE.from_preset(str(tiny_preset), dropout=0.0, pooling="avg")
    model.compile(keras.optimizers.SGD(0.0), objective=objective)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objective.get_config() == objective.get_config()

    texts = [SENTENCES, SENTENCES[::-1]]
    z = np.stack([model.predict(column, verbose=0) for column in texts])
    logs = model.train_on_batch(model.prepare(*texts), return_dict=True)
    cut, whole = Matryoshka(Contrastive(), [4]), Contrastive()
    targets = whole.targets([tf.constant(column) for column in texts], None)
    expected = whole.embedding_loss(z, targets) + cut.embedding_loss(z, targets) / 2
    received = logs["loss"] - 0.1 * logs["mlm_loss"]
    np.testing.assert_allclose(received, expected, rtol=1e-4)
