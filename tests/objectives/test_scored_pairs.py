import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forked import run_script
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.objectives.scored_pairs import AnglE, CoSENT, ranking_loss

# What sentence-transformers 6's CoSENTLoss and AnglELoss return for `embedded_pairs`.
THEIRS = [
    (2, 4, 0.0, 0.0),
    (16, 32, 12.343655586242676, 14.880186080932617),
    (33, 7, 36.67404556274414, 22.180524826049805),
    (64, 384, 8.220497131347656, 9.162191390991211),
]
OBJECTIVES = [CoSENT, AnglE]
SCORES = np.linspace(0.0, 5.0, len(SENTENCES)).astype("float32")


def embedded_pairs(n, dim):
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=(2, n, dim)).astype("float32")
    scores = rng.integers(0, 11, n).astype("float32") / 2
    return np.stack([first, second + np.float32(0.5) * first]), scores


def loss_of(objective, embeddings, scores):
    return objective.embedding_loss(
        tf.constant(embeddings), {"scores": tf.constant(scores)}
    )


def reference_loss(kind, embeddings, scores, t=0.05):
    """The formulas in float64, a loop over pairs of pairs, sharing no code."""
    similarities = []
    for x, y in zip(*np.float64(embeddings), strict=True):
        x, y = x / np.sqrt(x @ x), y / np.sqrt(y @ y)
        if kind is CoSENT:
            similarities.append(x @ y)
        else:
            half = (len(x) + 1) // 2
            x, y = (np.pad(z, (0, len(z) % 2)) for z in (x, y))
            z, w = x[:half] + 1j * x[half:], y[:half] + 1j * y[half:]
            product = (z * np.conj(w)).sum()
            similarities.append(abs(product.real + product.imag))
    total = 1.0
    for similarity, score in zip(similarities, scores, strict=True):
        for other, higher in zip(similarities, scores, strict=True):
            if score < higher:
                total += np.exp((similarity - other) / t)
    return np.log(total)


@pytest.mark.parametrize(("n", "dim", "cosent", "angle"), THEIRS)
def test_losses_equal_those_of_sentence_transformers(n, dim, cosent, angle):
    pairs = embedded_pairs(n, dim)
    np.testing.assert_allclose(loss_of(CoSENT(), *pairs), cosent, rtol=1e-5)
    np.testing.assert_allclose(loss_of(AnglE(), *pairs), angle, rtol=1e-5)


@given(st.sampled_from(OBJECTIVES), st.integers(0, 2**31), st.data())
@settings(deadline=None, max_examples=40)
def test_losses_equal_the_formulas_in_float64(kind, seed, data):
    n, dim = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))
    t = data.draw(st.sampled_from([0.05, 0.2, 1.0]))
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(2, n, dim)).astype("float32")
    scores = rng.integers(0, 4, n).astype("float32")
    loss = loss_of(kind(t), embeddings, scores)
    assert loss.dtype == tf.float32
    expected = reference_loss(kind, embeddings, scores, t)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_gradients_equal_central_differences(kind):
    embeddings, scores = embedded_pairs(5, 6)
    tensor = tf.constant(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = kind(0.2).embedding_loss(tensor, {"scores": tf.constant(scores)})
    gradient = tape.gradient(loss, tensor).numpy()
    for index in np.ndindex(*embeddings.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = np.float64(embeddings)
            moved[index] += step
            sides.append(reference_loss(kind, moved, scores, 0.2))
        expected = (sides[0] - sides[1]) / 2e-5
        assert gradient[index] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@given(st.permutations(range(8)), st.floats(0.5, 100), st.floats(-50, 50))
@settings(deadline=None, max_examples=30)
def test_only_the_order_of_scores_matters_and_not_that_of_pairs(order, scale, shift):
    similarities = tf.constant(np.random.default_rng(3).normal(size=8), tf.float32)
    scores = tf.constant([0, 1, 1, 2, 3, 3, 4, 5], tf.float32)
    loss = ranking_loss(similarities, scores, 0.5)
    other = ranking_loss(
        tf.gather(similarities, order), tf.gather(scores * scale + shift, order), 0.5
    )
    np.testing.assert_allclose(other, loss, rtol=1e-5)


def test_equal_scores_and_a_single_pair_ask_for_nothing():
    similarities = tf.constant([0.3, -0.9, 0.8])
    assert float(ranking_loss(similarities, tf.ones(3))) == 0.0
    assert float(ranking_loss(similarities[:1], tf.ones(1))) == 0.0


def test_the_right_order_costs_less_than_the_wrong_one():
    right = ranking_loss(tf.constant([0.1, 0.5, 0.9]), tf.constant([0.0, 1.0, 2.0]))
    wrong = ranking_loss(tf.constant([0.9, 0.5, 0.1]), tf.constant([0.0, 1.0, 2.0]))
    assert float(right) < 0.01
    assert float(wrong) > 10


def test_a_zero_embedding_has_a_finite_gradient():
    embeddings = tf.zeros([2, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = AnglE().embedding_loss(embeddings, {"scores": tf.range(3.0)})
    assert np.isfinite(tape.gradient(loss, embeddings)).all()


@pytest.mark.slow
def test_fit_takes_pairs_and_their_scores(tiny_preset):
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(str(tiny_preset), pooling="avg", dropout=0.0)
    others = SENTENCES[1:] + SENTENCES[:1]
    embeddings = [
        model.embedder.embed(model.preprocess(tf.constant(texts)))
        for texts in (SENTENCES, others)
    ]
    model.compile(keras.optimizers.SGD(1e-3), objective=CoSENT(0.5), run_eagerly=True)
    losses = [
        model.fit((SENTENCES, others), SCORES, verbose=0).history["loss"][0]
        for _ in range(2)
    ]
    expected = reference_loss(CoSENT, embeddings, SCORES, 0.5)
    assert losses[0] == pytest.approx(expected, rel=1e-4)
    assert losses[1] < losses[0]


def test_columns_that_do_not_fit_are_refused_in_one_line(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset))
    for objective, columns, message in [
        (Contrastive(), (["a"], ["b"], [0.5]), "texts alone, .* CoSENT"),
        (CoSENT(), (["a"], ["b"]), "CoSENT: .* 2 columns without scores"),
        (AnglE(), (["a"], ["b"], ["c"], [0.5]), "AnglE: .* 3 columns with scores"),
        (AnglE() + MaskedLM(0.1), (["a"], [0.5]), "AnglE: .* 1 columns with scores"),
    ]:
        model.objective = objective
        with pytest.raises(UserError, match=message) as error:
            model.prepare(*columns)
        assert "\n" not in str(error.value)
    # What `fit` traces is told as plainly.
    model.compile("adam", objective=CoSENT())
    with pytest.raises(UserError, match="CoSENT: .* without scores") as error:
        model.fit((["a", "b"], ["c", "d"]), verbose=0)
    assert "\n" not in str(error.value)


# In processes of their own, since the CPU can be split only before TensorFlow starts.
# The encoder is one matrix.
REPLICAS = """
import json, sys
import numpy as np, tensorflow as tf
from simcse_tf.distributed import collectives
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.objectives.scored_pairs import AnglE, CoSENT

replicas, out = int(sys.argv[1]), sys.argv[2]
split_cpu(replicas)
strategy = strategy_of("mirrored" if replicas > 1 else "none")
inputs = tf.random.stateless_normal([2, 8, 5], [1, 2])
scores = tf.constant([3., 1., 4., 1., 5., 9., 2., 6.])
with strategy.scope():
    kernel = tf.Variable(tf.random.stateless_normal([5, 4], [3, 4]))

@tf.function
def step(objective):
    def one_replica():
        rows = 8 // replicas
        first = collectives.replica_offset(rows)
        part, targets = inputs[:, first:first + rows], scores[first:first + rows]
        with tf.GradientTape() as tape:
            loss = objective.embedding_loss(part @ kernel, {"scores": targets})
            scaled = loss / replicas
        return loss, collectives.sum_over_replicas(tape.gradient(scaled, [kernel]))
    return strategy.run(one_replica)

results = []
for objective in (CoSENT(0.2), AnglE(0.2)):
    losses, gradients = map(strategy.experimental_local_results, step(objective))
    for loss, [gradient] in zip(losses, gradients):
        results.append([float(loss), gradient.numpy().tolist()])
json.dump(results, open(out, "w"))
"""


@pytest.mark.slow
def test_replicas_compare_the_pairs_of_the_whole_batch(tmp_path):
    results = {}
    for replicas in (1, 2, 4):
        out = tmp_path / f"{replicas}.json"
        run_script(REPLICAS, replicas, out, cwd=ROOT)
        results[replicas] = json.loads(out.read_text())
    for replicas in (2, 4):
        for index, (loss, gradient) in enumerate(results[replicas]):
            expected_loss, expected = results[1][index // replicas]
            assert loss == pytest.approx(expected_loss, rel=1e-5)
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(results[1][1][1]).max() > 0.1
