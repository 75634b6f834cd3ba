import keras
import numpy as np
import pytest
import tensorflow as tf
from support.forked import run_script
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.objectives.contrastive import Contrastive, contrastive_loss
from simcse_tf.objectives.matryoshka import Matryoshka
from simcse_tf.objectives.momentum_queue import MomentumQueue

OTHERS = [f"{text} Again." for text in SENTENCES]


def reference_loss(z, positive, queue, t=0.05):
    """The paper's equation 5 in float64, a loop an anchor, sharing no code."""

    def cosine(a, b):
        return a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b))

    losses = []
    for i, anchor in enumerate(z):
        terms = [np.exp(cosine(anchor, other) / t) for other in [*positive, *queue]]
        losses.append(-np.log(terms[i] / sum(terms)))
    return np.mean(losses)


def queued(size, momentum=0.9, **settings):
    return Contrastive(negatives=[MomentumQueue(size, momentum)], **settings)


def compiled(preset, objective, learning_rate=0.1, seed=1, **settings):
    keras.utils.set_random_seed(seed)
    model = SimCSE.from_preset(
        str(preset), **{"pooling": "avg", "dropout": 0.0, **settings}
    )
    # Eagerly, as tracing takes most of a test's time. The replicas' steps are traced.
    model.compile(
        keras.optimizers.SGD(learning_rate), objective=objective, run_eagerly=True
    )
    return model


def step(model, *columns):
    batch = model.prepare(*map(tf.constant, columns))
    return float(model.train_on_batch(batch, return_dict=True)["loss"])


def embed(encoder, texts):
    return encoder.embedder.embed(encoder.preprocess(tf.constant(texts))).numpy()


def queue_of(model):
    [negatives] = model.objective.negatives
    encoder, queue = negatives.layers
    return encoder, queue.embeddings.numpy(), queue.ids.numpy()


def test_queued_embeddings_join_the_denominator_as_in_the_papers_equation():
    rng = np.random.default_rng(0)
    z, positive = rng.normal(size=(2, 6, 8))
    queue = rng.normal(size=(5, 8))
    left_out = np.zeros((6, 5), bool)
    left_out[:, 3:] = True
    loss = contrastive_loss(
        *np.float32([z, positive]), negatives=[(np.float32(queue), left_out)]
    )
    expected = reference_loss(z, positive, queue[:3])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    with_hard = contrastive_loss(
        *np.float32([z, positive, queue[[0, 1, 2, 3, 4, 0]]]),
        hard_negative_weight=3.0,
        left_out=np.repeat([[False, True]], 6, axis=1),
        negatives=[(np.float32(queue), left_out)],
    )
    np.testing.assert_allclose(with_hard, expected, rtol=1e-5)


def test_gradients_with_queued_negatives_equal_central_differences():
    rng = np.random.default_rng(1)
    z, positive, queue = rng.normal(size=(3, 4, 5))
    tensors = [tf.constant(x, tf.float32) for x in (z, positive)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = contrastive_loss(
            *tensors, temperature=0.2, negatives=[(np.float32(queue), [[False]])]
        )
    for column, gradient in enumerate(tape.gradient(loss, tensors)):
        for index in np.ndindex(z.shape):
            sides = []
            for delta in (1e-5, -1e-5):
                moved = [z.copy(), positive.copy()]
                moved[column][index] += delta
                sides.append(reference_loss(*moved, queue, t=0.2))
            expected = (sides[0] - sides[1]) / 2e-5
            assert float(gradient[index]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_the_queue_holds_past_positives_as_the_slower_encoder_embeds_them(tiny_preset):
    model = compiled(tiny_preset, queued(5))
    slower, queue, _ = queue_of(model)
    assert not queue.any()
    before = model.backbone.get_weights()
    for followed, weight in zip(before, slower.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, followed)
    z, positive = (embed(model, x[:3]) for x in (SENTENCES, OTHERS))
    # An empty queue changes nothing, and a batch is queued as the encoder was before.
    first = step(model, SENTENCES[:3], OTHERS[:3])
    assert first == pytest.approx(reference_loss(z, positive, []), rel=1e-4)
    np.testing.assert_allclose(queue_of(model)[1][:3], positive, atol=1e-5)
    assert not queue_of(model)[1][3:].any()
    after = model.backbone.get_weights()
    assert np.abs(after[0] - before[0]).max() > 1e-4
    for old, new, weight in zip(
        before, after, slower.backbone.get_weights(), strict=True
    ):
        np.testing.assert_allclose(weight, 0.9 * old + 0.1 * new, atol=1e-6)
    z, others = (embed(model, x[3:6]) for x in (SENTENCES, OTHERS))
    newest = embed(slower, OTHERS[3:6])
    second = step(model, SENTENCES[3:6], OTHERS[3:6])
    assert second == pytest.approx(reference_loss(z, others, positive), rel=1e-4)
    # The newest three, then two of the oldest.
    expected = [*newest, *positive[:2]]
    np.testing.assert_allclose(queue_of(model)[1], expected, atol=1e-5)
    # What overflows, as half precision may, does not stay in the queue.
    table = slower.backbone.token_embedding.embeddings
    table.assign(np.full(table.shape, np.nan))
    step(model, SENTENCES[:3], OTHERS[:3])
    np.testing.assert_allclose(queue_of(model)[1], [*[0 * z[0]] * 3, *newest[:2]])


@pytest.mark.slow
def test_a_text_in_the_queue_is_no_negative_of_itself(tiny_preset):
    model = compiled(tiny_preset, queued(8), 0.0)
    step(model, SENTENCES[:4])
    z = embed(model, SENTENCES[:4])
    targets = model.prepare(tf.constant(SENTENCES[:4]))["targets"]
    losses = []
    for masks in (True, False):
        model.objective.mask_duplicates = masks
        losses.append(model.objective.embedding_loss(tf.stack([z, z]), targets))
    # Each anchor sees the three others twice, and itself once or twice.
    terms = np.exp((z @ z.T) / 0.05)
    own, others = np.diag(terms), terms.sum(axis=1) - np.diag(terms)
    expected = [np.mean(-np.log(own / (count * own + 2 * others))) for count in (1, 2)]
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


@pytest.mark.slow
def test_a_head_and_a_second_encoder_are_followed_too(tiny_preset):
    model = compiled(
        tiny_preset, queued(8), 0.5, encoders="dual", pooling="cls",
        head_init="random", head_in_inference=False, dropout=0.3,
    )  # fmt: skip
    source = model.candidate_encoder()
    slower = queue_of(model)[0]
    dims = slower.head.get_weights()[0]
    np.testing.assert_array_equal(dims, source.head.get_weights()[0])
    batch = model.prepare(tf.constant(SENTENCES), tf.constant(OTHERS))
    # Without dropout, and through the head that the loss is of.
    expected = slower.embedder.embed(batch["positive"])
    model.train_on_batch(batch)
    np.testing.assert_allclose(queue_of(model)[1], expected, atol=1e-5)
    moved = slower.head.get_weights()[0]
    np.testing.assert_allclose(
        moved, 0.9 * dims + 0.1 * source.head.get_weights()[0], atol=1e-6
    )
    assert np.abs(moved - dims).max() > 0


@pytest.mark.slow
def test_the_slower_encoder_is_not_trained_saved_in_a_preset_or_used(
    tiny_preset, tmp_path
):
    model = compiled(tiny_preset, Contrastive())
    trained = len(model.trainable_variables)
    model.save_to_preset(str(tmp_path / "plain"))
    objective = Matryoshka(queued(8), [16, 8])
    model.compile(keras.optimizers.SGD(0.1), objective=objective, run_eagerly=True)
    assert len(model.trainable_variables) == trained
    step(model, SENTENCES)
    step(model, SENTENCES)
    model.save_to_preset(str(tmp_path / "preset"))
    files = [
        {path.name for path in (tmp_path / name).iterdir()}
        for name in ("plain", "preset")
    ]
    assert files[0] == files[1]
    loaded = SimCSE.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(embed(loaded, SENTENCES), embed(model, SENTENCES))
    # Keras' own file holds all of it, and goes on with it.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert step(again, SENTENCES) == step(model, SENTENCES)


# In processes of their own, since the CPU can be split only before TensorFlow starts.
# The encoder is one matrix, and its step plain descent.
REPLICAS = """
import json, sys
import keras, numpy as np, tensorflow as tf
from simcse_tf.distributed import collectives
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.false_negatives import text_ids
from simcse_tf.objectives.momentum_queue import MomentumQueue

replicas, out, rows = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
split_cpu(replicas)
strategy = strategy_of("mirrored" if replicas > 1 else "none")

class Linear:
    head, embedding_dim, trainable = None, 4, True

    def __init__(self, kernel):
        self.backbone = keras.layers.Dense(4, use_bias=False)
        self.backbone.build((None, 5))
        self.backbone.set_weights([kernel])
        self.embedder = self

    def copied(self):
        return Linear(self.backbone.get_weights()[0])

    def candidate_encoder(self):
        return self

    def embed(self, features):
        return l2_normalize(features["token_ids"] @ self.backbone.kernel)

with strategy.scope():
    model = Linear(np.random.default_rng(0).normal(size=(5, 4)))
    negatives = MomentumQueue(size=12, momentum=0.9)
    objective = Contrastive(negatives=[negatives])
    objective.build(model)

@tf.function
def step(inputs, ids):
    def one_replica():
        each = 8 // replicas
        first = collectives.replica_offset(each)
        views = {"token_ids": inputs[:, first:first + each]}
        targets = {"text_ids": ids[first:first + each]}
        kernel = model.backbone.kernel
        with tf.GradientTape() as tape:
            loss = objective.embedding_loss(model.embed(views), targets)
            scaled = loss / replicas
        gradient = tape.gradient(scaled, kernel.value)
        [gradient] = collectives.sum_over_replicas([gradient])
        collectives.assign([kernel], [kernel - 0.1 * gradient])
        objective.after_update(views, targets, rows)
        return collectives.mean_over_replicas(loss)
    return strategy.run(one_replica)

losses = []
for number in range(4):
    inputs = tf.random.stateless_normal([2, 8, 5], [number, 2])
    texts = [str(number * 3 + i) for i in range(8)]
    loss = step(inputs, text_ids([tf.constant(texts)]))
    losses.append(strategy.experimental_local_results(loss)[0])
encoder, queue = negatives.layers
kernels = [encoder.backbone.kernel, model.backbone.kernel]
variables = [queue.embeddings, queue.ids, *kernels]
copies = [
    [c.numpy() for c in strategy.experimental_local_results(v.value)] for v in variables
]
assert all(len(each) == replicas for each in copies)
assert all(np.array_equal(copy, each[0]) for each in copies for copy in each)
names = ("embeddings", "ids", "slower", "kernel")
np.savez(out, losses=losses, **{n: each[0] for n, each in zip(names, copies)})
"""


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.attack)])
def test_replicas_and_micro_batches_fill_the_queue_of_one_batch(tmp_path, replicas):
    def run(replicas, rows):
        out = tmp_path / f"{replicas}.npz"
        run_script(REPLICAS, replicas, out, rows, cwd=ROOT)
        return np.load(out)

    one = run(1, 8)
    assert one["embeddings"].any(axis=-1).all()
    assert not np.allclose(one["slower"], one["kernel"], atol=1e-3)
    many = run(replicas, 2)
    for name in one.files:
        np.testing.assert_allclose(many[name], one[name], rtol=1e-4, atol=1e-5)
