import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.mixed_negatives import MixedNegatives


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def mixtures(positives, share):
    n = len(positives)
    return unit(
        np.stack(
            [
                share * positives[k] + (1 - share) * positives[(k + 1) % n]
                for k in range(n)
            ]
        )
    )


def reference_loss(z, positive, share, t=0.05, mixed=None):
    """In float64, a loop an anchor, sharing no code."""
    z, positive = unit(np.float64(z)), unit(np.float64(positive))
    n, losses = len(z), []
    mixed = mixtures(positive, share) if mixed is None else mixed
    for i in range(n):
        others = [mixed[k] for k in range(n) if (k + 1) % n != i]
        terms = [np.exp(z[i] @ other / t) for other in [*positive, *others]]
        losses.append(-np.log(terms[i] / sum(terms)))
    return np.mean(losses)


def loss_of(objective, *views):
    return objective.embedding_loss(tf.stack([*map(tf.constant, views)]), {})


@given(st.integers(0, 2**31), st.integers(2, 12), st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=30)
def test_mixtures_join_the_denominator(seed, n, share):
    z, positive = np.random.default_rng(seed).normal(size=(2, n, 6)).astype("float32")
    objective = Contrastive(temperature=0.1, negatives=[MixedNegatives(share)])
    expected = reference_loss(z, positive, share, t=0.1)
    np.testing.assert_allclose(loss_of(objective, z, positive), expected, rtol=1e-4)


def test_no_gradient_flows_through_mixtures():
    z, positive = np.random.default_rng(1).normal(size=(2, 4, 5))
    tensors = [tf.constant(x, tf.float32) for x in (z, positive)]
    objective = Contrastive(temperature=0.2, negatives=[MixedNegatives(0.3)])
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = objective.embedding_loss(tf.stack(tensors), {})
    fixed = mixtures(unit(positive), 0.3)
    for column, gradient in enumerate(tape.gradient(loss, tensors)):
        for index in np.ndindex(z.shape):
            sides = []
            for delta in (1e-5, -1e-5):
                moved = [z.copy(), positive.copy()]
                moved[column][index] += delta
                sides.append(reference_loss(*moved, 0.3, 0.2, fixed))
            expected = (sides[0] - sides[1]) / 2e-5
            assert float(gradient[index]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_an_objective_with_several_negatives_is_described_whole():
    objective = Contrastive(negatives=[MixedNegatives(0.3), MixedNegatives(0.1)])
    config = keras.saving.serialize_keras_object(objective)
    again = keras.saving.deserialize_keras_object(config)
    assert [each.share for each in again.negatives] == [0.3, 0.1]
