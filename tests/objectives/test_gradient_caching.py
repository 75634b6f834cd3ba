import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forked import run_script
from support.models import ROOT, SENTENCES

from simcse_tf.objectives.contrastive import contrastive_loss
from simcse_tf.objectives.gradient_caching import cached_gradients
from simcse_tf.objectives.step import Step, direct_gradients

# A process for each case, since the CPU can be split only before TensorFlow starts.
# The reference encodes the same micro-batches, under the same dropout masks, but all
# of them on one tape. After its first step Adam's first moment is a tenth of the
# gradient.
SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
from simcse_tf import SimCSE
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.model import simcse
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.training.optimizer import adam

preset, out, case, *texts = sys.argv[1:]
columns, replicas, precision, mlm_weight = json.loads(case)
split_cpu(replicas)
strategy = strategy_of("mirrored" if replicas > 1 else "none")

def on_one_tape(step, count):
    with tf.GradientTape() as tape:
        parts = [step.encode(index) for index in range(2)]
        loss = step.loss(tf.concat(parts, axis=1))
        auxiliary = tf.add_n([step.token_loss(index) for index in range(2)])
        scaled = step.scale(loss + auxiliary)
    grads = tape.gradient(scaled, step.variables)
    return loss, auxiliary, [tf.convert_to_tensor(g) for g in grads]

def first_step(gradients):
    simcse.cached_gradients = gradients
    data = tuple(list(np.roll(texts, shift)) for shift in range(columns))
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = SimCSE.from_preset(preset, head_init="random", dropout=0.2,
                                    dtype=precision)
        objective = Contrastive() + MaskedLM(mlm_weight) if mlm_weight else None
        model.compile(adam(1e-3, clip_norm=0.1), objective=objective,
                       micro_batch_size=len(texts) // replicas // 2)
    if precision == "mixed_float16":
        model.optimizer.dynamic_scale.assign(64.0)  # no overflow, no skipped step
    loss = model.fit(data, batch_size=len(texts), shuffle=False, verbose=0)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return loss.history["loss"][0], [10 * m.numpy() for m in optimizer._momentums]

loss, grads = first_step(simcse.cached_gradients)
expected_loss, expected = first_step(on_one_tape)
largest = max(np.abs(e).max() for e in expected)
difference = max(np.abs(g - e).max() for g, e in zip(grads, expected))
json.dump([loss, expected_loss, float(difference), float(largest)], open(out, "w"))
"""
# Columns, replicas, precision, weight of the masked language model.
CASES = [
    (1, 1, "float32", 0.5),
    (3, 2, "float32", 0.0),
    pytest.param((2, 1, "mixed_float16", 0.0), marks=pytest.mark.attack),
    pytest.param((2, 2, "mixed_float16", 0.0), marks=pytest.mark.attack),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradient_caching_gives_the_direct_step_of_the_same_dropout_masks(
    tiny_preset, tmp_path, case
):
    out = tmp_path / "out.json"
    run_script(SCRIPT, tiny_preset, out, json.dumps(case), *SENTENCES, cwd=ROOT)
    loss, expected_loss, difference, largest = json.loads(out.read_text())
    assert largest > 1e-3
    # The two round alike in half precision, for they compute the same products; only
    # the order of the sums over micro-batches differs.
    tolerance = 1e-5 if case[2] == "float32" else 1e-3
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    assert difference <= tolerance * largest


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    columns=st.integers(2, 3),
    micro_batches=st.integers(1, 4),
    rows=st.integers(1, 3),
    scale=st.sampled_from([1.0, 1024.0]),
    seed=st.integers(0, 10**6),
)
def test_cached_gradients_equal_those_of_the_whole_batch(
    columns, micro_batches, rows, scale, seed
):
    """Of a linear encoder whose auxiliary loss sums over the examples."""
    rng = np.random.default_rng(seed)
    total = micro_batches * rows
    inputs = tf.constant(rng.normal(size=(columns, total, 5)), tf.float32)
    kernel = tf.Variable(rng.normal(size=(5, 4)), dtype=tf.float32)

    def step(rows):
        def encode(index):
            return inputs[:, index * rows : (index + 1) * rows] @ kernel

        def loss(embeddings):
            return contrastive_loss(*tf.unstack(embeddings, columns), temperature=0.5)

        return Step(
            encode,
            loss,
            token_loss=lambda index: 0.1 * tf.reduce_sum(encode(index) ** 2),
            scale=lambda loss: scale * loss,
            variables=[kernel],
        )

    found = cached_gradients(step(rows), tf.constant(micro_batches))
    expected = direct_gradients(step(total))
    pairs = zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True)
    for one, other in pairs:
        # One vector alone has loss 0.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * scale)
