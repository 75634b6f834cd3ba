"""RankCSE's losses against float64 NumPy that shares no code with them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.objectives.distillation import embedding_loss
from simcse_tf.objectives.ranking import (
    consistency_loss,
    cosines,
    list_mle_loss,
    listnet_loss,
    score_loss,
)

CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def softmax(values, t):
    powers = np.exp((values - max(values)) / t)
    return powers / powers.sum()


def reference_consistency(first, second, t):
    total = 0.0
    for one, other in zip(np.float64(first), np.float64(second), strict=True):
        p, q = softmax(one, t), softmax(other, t)
        m = (p + q) / 2
        total += sum(
            0.5 * (a * np.log(a / c) if a > 0 else 0)
            + 0.5 * (b * np.log(b / c) if b > 0 else 0)
            for a, b, c in zip(p, q, m, strict=True)
        )
    return total / len(first)


def reference_listnet(student, teacher, listed, t):
    total = 0.0
    for s, u, there in zip(
        np.float64(student), np.float64(teacher), listed, strict=True
    ):
        if there.any():
            s, choice = s[there], softmax(u[there], t / 2)
            logs = s / t - max(s) / t - np.log(np.exp((s - max(s)) / t).sum())
            total -= choice @ logs
    return total / len(student)


def reference_list_mle(student, teacher, listed, t):
    total = 0.0
    for s, u, there in zip(
        np.float64(student), np.float64(teacher), listed, strict=True
    ):
        left = sorted(np.flatnonzero(there), key=lambda j: (-u[j], j))
        count, cost = len(left), 0.0
        while left:
            rest = s[left] / t
            cost += np.log(np.exp(rest - max(rest)).sum()) + max(rest) - rest[0]
            left = left[1:]
        total += cost / max(1, count)
    return total / len(student)


def reference_score(student, teacher, listed, t):
    means = [
        np.mean((np.float64(s)[there] - np.float64(u)[there]) ** 2)
        if there.any()
        else 0
        for s, u, there in zip(student, teacher, listed, strict=True)
    ]
    return np.mean(means)


LOSSES = {
    "listnet": (listnet_loss, reference_listnet),
    "listmle": (list_mle_loss, reference_list_mle),
    "score": (lambda s, u, listed, t: score_loss(s, u, listed), reference_score),
}


@st.composite
def lists(draw):
    """Cosines of a student and a teacher, ties among them, and what is in the lists."""
    n, m = draw(st.integers(1, 9)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    student, teacher = rng.uniform(-1, 1, (2, n, m)).astype("float32")
    if draw(st.booleans()):
        teacher = np.round(teacher, 1).astype("float32")
    listed = rng.random((n, m)) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return student, teacher, listed, draw(st.sampled_from([0.01, 0.05, 1.0]))


@pytest.mark.parametrize("name", LOSSES)
@given(batch=lists())
@settings(deadline=None, max_examples=40)
def test_a_loss_of_lists_equals_its_equation_in_float64(name, batch):
    loss, reference = LOSSES[name]
    student, teacher, listed, t = batch
    found = loss(tf.constant(student), tf.constant(teacher), tf.constant(listed), t)
    np.testing.assert_allclose(found, reference(student, teacher, listed, t), **CLOSE)


@given(batch=lists())
@settings(deadline=None, max_examples=40)
def test_the_consistency_is_the_jensen_shannon_divergence_in_float64(batch):
    first, second, _, t = batch
    found = consistency_loss(first / t, second / t)
    np.testing.assert_allclose(found, reference_consistency(first, second, t), **CLOSE)
    assert -1e-6 <= found <= np.log(2) + 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_central_differences(name):
    loss, reference = LOSSES[name]
    rng = np.random.default_rng(1)
    student, teacher = rng.uniform(-1, 1, (2, 3, 6)).astype("float32")
    # The second list is empty.
    listed = np.array([[1, 1, 0, 1, 1, 1], [0] * 6, [1] * 6], bool)
    values = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = loss(values, teacher, listed, 0.2)
    gradient = tape.gradient(found, values).numpy()
    assert not gradient[~listed].any()

    def at(index, step):
        moved = np.float64(student)
        moved[index] += step
        return reference(moved, teacher, listed, 0.2)

    for index in np.ndindex(*student.shape):
        numeric = (at(index, 1e-5) - at(index, -1e-5)) / 2e-5
        np.testing.assert_allclose(gradient[index], numeric, rtol=1e-3, atol=1e-4)


def test_the_consistencys_gradient_equals_central_differences():
    rng = np.random.default_rng(2)
    first, second = rng.uniform(-1, 1, (2, 3, 5)).astype("float32")
    values = tf.constant(first)
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = consistency_loss(values / 0.2, second / 0.2)
    gradient = tape.gradient(found, values).numpy()

    def at(index, step):
        moved = np.float64(first)
        moved[index] += step
        return reference_consistency(moved, second, 0.2)

    for index in np.ndindex(*first.shape):
        numeric = (at(index, 1e-5) - at(index, -1e-5)) / 2e-5
        np.testing.assert_allclose(gradient[index], numeric, rtol=1e-3, atol=1e-4)


def test_two_views_that_rank_alike_are_consistent_with_a_finite_gradient():
    values = tf.constant([[1.0, -1.0, 0.5]]) / 0.0001
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = consistency_loss(values, values)
    assert found == 0
    assert np.isfinite(tape.gradient(found, values)).all()


def test_a_student_that_ranks_as_the_teacher_does_costs_least():
    rng = np.random.default_rng(3)
    teacher = rng.uniform(-1, 1, (4, 8)).astype("float32")
    listed = np.ones_like(teacher, bool)
    for loss in (listnet_loss, list_mle_loss):
        same = loss(teacher, teacher, listed, 0.05)
        assert same < loss(-teacher, teacher, listed, 0.05)
        assert same < loss(0 * teacher, teacher, listed, 0.05)


def test_the_embedding_loss_is_the_mean_squared_error_times_the_dimensions():
    """Per example: the mean over its texts, of which one may be lacking."""
    rng = np.random.default_rng(4)
    views, teacher = rng.normal(size=(2, 3, 5, 7)).astype("float32")
    teacher[2, 1:3] = 0
    expected = []
    for i in range(5):
        distances = []
        for view, other in zip(np.float64(views[:, i]), teacher[:, i], strict=True):
            if other.any():
                cosine = view @ other / np.linalg.norm(view) / np.linalg.norm(other)
                distances.append(2 - 2 * cosine)
        expected.append(np.mean(distances))
    found = embedding_loss(
        list(map(tf.constant, views)), list(map(tf.constant, teacher))
    )
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_xla_compiles_a_loss_of_lists(name):
    loss, reference = LOSSES[name]
    rng = np.random.default_rng(5)
    student, teacher = rng.uniform(-1, 1, (2, 4, 8)).astype("float32")
    listed = ~np.eye(4, 8, dtype=bool)

    @tf.function(jit_compile=True)
    def with_gradient(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            found = loss(values, teacher, listed, 0.05)
        return found, tape.gradient(found, values)

    found, gradient = with_gradient(tf.constant(student))
    expected = reference(student, teacher, listed, 0.05)
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert np.isfinite(gradient).all()


def test_lists_are_of_cosines_whatever_the_embeddings_lengths():
    rng = np.random.default_rng(6)
    one, other = rng.normal(size=(2, 4, 6)).astype("float32")
    np.testing.assert_allclose(cosines(9 * one, other), cosines(one, 3 * other), 1e-5)
