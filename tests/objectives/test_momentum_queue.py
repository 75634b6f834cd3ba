import json

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
    model.compile(keras.optimizers.SGD(learning_rate), objective=objective)
    return model


def step(model, *columns):
    batch = model.prepare(*map(tf.constant, columns))
    return float(model.train_on_batch(batch, return_dict=True)["loss"])


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
    z, positive = (model.predict(x[:3], verbose=0) for x in (SENTENCES, OTHERS))
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
    z, others = (model.predict(x[3:6], verbose=0) for x in (SENTENCES, OTHERS))
    newest = slower.predict(OTHERS[3:6], verbose=0)
    second = step(model, SENTENCES[3:6], OTHERS[3:6])
    assert second == pytest.approx(reference_loss(z, others, positive), rel=1e-4)
    # The newest three, then two of the oldest.
    expected = [*newest, *positive[:2]]
    np.testing.assert_allclose(queue_of(model)[1], expected, atol=1e-5)


@pytest.mark.slow
def test_a_text_in_the_queue_is_no_negative_of_itself(tiny_preset):
    masking, counting = (
        compiled(tiny_preset, queued(8, mask_duplicates=masks), 0.0)
        for masks in (True, False)
    )
    for model in (masking, counting):
        step(model, SENTENCES[:4])
    z = masking.predict(SENTENCES[:4], verbose=0)
    alone = reference_loss(z, z, [])
    losses = [step(model, SENTENCES[:4]) for model in (masking, counting)]
    # Each anchor sees the three others twice, and itself once or twice.
    terms = np.exp((z @ z.T) / 0.05)
    own, others = np.diag(terms), terms.sum(axis=1) - np.diag(terms)
    expected = [
        np.mean(-np.log(own / (count * own + 2 * others))) for count in (1, 2)
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    assert losses[1] > losses[0] > alone


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "cls", "head_init": "random", "head_in_inference": False},
        {"encoders": "dual", "pooling": "cls", "head_init": "random"},
    ],
)
def test_a_head_and_a_second_encoder_are_followed_too(tiny_preset, settings):
    model = compiled(tiny_preset, queued(8), 0.5, **settings, dropout=0.3)
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
    plain = compiled(tiny_preset, Contrastive())
    model = compiled(tiny_preset, Matryoshka(queued(8), [16, 8]))
    assert len(model.trainable_variables) == len(plain.trainable_variables)
    step(model, SENTENCES)
    step(model, SENTENCES)
    model.save_to_preset(str(tmp_path / "preset"))
    files = {path.name for path in (tmp_path / "preset").iterdir()}
    plain.save_to_preset(str(tmp_path / "plain"))
    assert files == {path.name for path in (tmp_path / "plain").iterdir()}
    loaded = SimCSE.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(
        loaded.predict(SENTENCES, verbose=0), model.predict(SENTENCES, verbose=0)
    )
    # Keras' own file holds all of it, and goes on with it.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert step(again, SENTENCES) == step(model, SENTENCES)


@pytest.mark.slow
def test_what_overflows_in_half_precision_does_not_stay_in_the_queue(tiny_preset):
    model = compiled(tiny_preset, queued(8), dtype="mixed_float16")
    slower, _, _ = queue_of(model)
    table = slower.backbone.token_embedding.embeddings
    table.assign(np.full(table.shape, np.nan))
    step(model, SENTENCES)
    assert not queue_of(model)[1].any()


# In processes of their own, since the CPU can be split only before TensorFlow starts.
REPLICAS = """
import json, sys
import keras, numpy as np, tensorflow as tf
from simcse_tf import SimCSE
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.momentum_queue import MomentumQueue

preset, out, replicas, micro, *texts = sys.argv[1:]
replicas, micro = int(replicas), int(micro) or None
split_cpu(replicas)
strategy = strategy_of("mirrored" if replicas > 1 else "none")
with strategy.scope():
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(preset, pooling="avg", dropout=0.0)
    negatives = MomentumQueue(size=12, momentum=0.9)
    model.compile(keras.optimizers.SGD(0.1), micro_batch_size=micro,
                  objective=Contrastive(negatives=[negatives]))
losses = []
batches = [list(np.roll(texts, step)) for step in range(4)]
batches = [[f"{text} {step}" for text in batch] for step, batch in enumerate(batches)]
data = tf.data.Dataset.from_tensor_slices((batches, [b[::-1] for b in batches]))
model.fit(data, verbose=0, callbacks=[keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: losses.append(logs["loss"]))])
encoder, queue = negatives.layers
variables = [queue.embeddings, queue.ids, *encoder.weights, *model.backbone.weights]
copies = [
    [c.numpy() for c in strategy.experimental_local_results(v.value)] for v in variables
]
assert all(np.array_equal(c, each[0]) for each in copies for c in each)
np.savez(out, losses=losses, **{f"v{i}": each[0] for i, each in enumerate(copies)})
"""


@pytest.mark.slow
def test_replicas_and_micro_batches_fill_the_queue_of_one_batch(tiny_preset, tmp_path):
    def run(replicas, micro):
        out = tmp_path / f"{replicas}-{micro}.npz"
        run_script(REPLICAS, tiny_preset, out, replicas, micro, *SENTENCES, cwd=ROOT)
        return np.load(out)

    one = run(1, 0)
    assert np.abs(one["v0"]).min(axis=-1).all()
    for replicas, micro in ((2, 2), (4, 0)):
        many = run(replicas, micro)
        np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-4)
        for name in one.files:
            np.testing.assert_allclose(many[name], one[name], atol=1e-4)
        np.testing.assert_array_equal(many["v1"], one["v1"])
