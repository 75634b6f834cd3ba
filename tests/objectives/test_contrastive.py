import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.contrastive import contrastive_loss

# Cosines are right to 1e-7 or so, and divided by a temperature of 0.05.
CLOSE = {"rtol": 1e-6, "atol": 1e-5}


def reference_loss(z, positive, negative=None, t=0.05, weight=0.0):
    """The paper's equations in float64, a loop an anchor, sharing no code."""

    def cosine(a, b):
        return a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b))

    z, positive = np.float64(z), np.float64(positive)
    losses = []
    for i in range(len(z)):
        terms = [cosine(z[i], positive[j]) / t for j in range(len(positive))]
        own = terms[i]
        if negative is not None:
            for j in range(len(negative)):
                extra = weight if i == j else 0.0
                terms.append(cosine(z[i], np.float64(negative[j])) / t + extra)
        top = max(terms)
        losses.append(np.log(sum(np.exp(x - top) for x in terms)) + top - own)
    return np.mean(losses)


@st.composite
def batches(draw):
    seed = draw(st.integers(0, 2**31))
    n, dim = draw(st.integers(1, 40)), draw(st.integers(2, 400))
    scale = draw(st.sampled_from([1e-3, 1.0, 50.0]))
    rng = np.random.default_rng(seed)
    return [(scale * rng.normal(size=(n, dim))).astype("float32") for _ in range(3)]


@given(batches())
@settings(deadline=None, max_examples=60)
def test_pairs_equal_the_papers_equation_in_float64(batch):
    z, positive, _ = batch
    np.testing.assert_allclose(
        contrastive_loss(z, positive), reference_loss(z, positive), **CLOSE
    )


@given(batches(), st.floats(-3, 3), st.sampled_from([0.05, 0.1, 1.0]))
@settings(deadline=None, max_examples=60)
def test_triplets_equal_the_papers_equation_in_float64(batch, weight, t):
    loss = contrastive_loss(*batch, temperature=t, hard_negative_weight=weight)
    expected = reference_loss(*batch, t=t, weight=weight)
    np.testing.assert_allclose(loss, expected, **CLOSE)


def test_half_precision_embeddings_give_the_float32_loss_of_their_values():
    rng = np.random.default_rng(0)
    z, positive = rng.normal(size=(2, 16, 32)).astype("float16")
    loss = contrastive_loss(tf.constant(z), tf.constant(positive))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, reference_loss(z, positive), rtol=1e-6)


@pytest.mark.parametrize("columns", [2, 3])
def test_gradients_equal_central_differences(columns):
    rng = np.random.default_rng(1)
    batch = [rng.normal(size=(4, 5)).astype("float32") for _ in range(columns)]
    tensors = [tf.constant(x) for x in batch]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = contrastive_loss(*tensors, temperature=0.2, hard_negative_weight=0.7)
    gradients = tape.gradient(loss, tensors)

    def at(column, index, step):
        moved = [np.float64(x) for x in batch]
        moved[column][index] += step
        return reference_loss(*moved, t=0.2, weight=0.7)

    for column, gradient in enumerate(gradients):
        for index in np.ndindex(*gradient.shape):
            numeric = (at(column, index, 1e-5) - at(column, index, -1e-5)) / 2e-5
            np.testing.assert_allclose(gradient[index], numeric, rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_with_their_offset_average_to_the_whole():
    rng = np.random.default_rng(2)
    z, positive, negative = rng.normal(size=(3, 8, 6)).astype("float32")
    parts = [
        contrastive_loss(
            z[i : i + 2], positive, negative, hard_negative_weight=0.5, offset=i
        )
        for i in range(0, 8, 2)
    ]
    whole = contrastive_loss(z, positive, negative, hard_negative_weight=0.5)
    np.testing.assert_allclose(np.mean(parts), whole, rtol=1e-6)


def test_a_zero_vector_has_cosine_zero_and_a_finite_gradient():
    z = tf.constant([[0.0, 0.0], [1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = contrastive_loss(z, z)
    np.testing.assert_array_equal(l2_normalize(z)[0], [0.0, 0.0])
    assert np.isfinite(tape.gradient(loss, z)).all()
