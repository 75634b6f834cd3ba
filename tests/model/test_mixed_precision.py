"""`mixed_float16`: what an overflow does, on one device and on one of two replicas."""

import json

import numpy as np
import pytest
from support.forked import run_script
from support.models import ROOT, SENTENCES, make_preset

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError

pytestmark = pytest.mark.slow

# In a process of its own, since the CPU can be split only before TensorFlow starts.
# `spoiled` says on which replica and at which step the loss overflows.
SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
from simcse_tf import SimCSE
from simcse_tf.distributed import collectives
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.training.optimizer import adam

preset, replicas, runs, out, *texts = sys.argv[1:]
replicas, runs = int(replicas), int(runs)
split_cpu(replicas)
strategy = strategy_of("mirrored" if replicas > 1 else "none")
spoiled = tf.Variable([-1, -1], dtype=tf.int32)

class Spoilable(Contrastive):
    def embedding_loss(self, embeddings, targets):
        here = tf.stack([collectives.replica_offset(1), tf.cast(step, tf.int32)])
        bad = tf.reduce_all(here == spoiled)
        return super().embedding_loss(embeddings, targets) * tf.where(bad, np.inf, 1.0)

with strategy.scope():
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(preset, head_init="random", dtype="mixed_float16")
    model.compile(adam(1e-3), objective=Spoilable())
step = tf.Variable(0)
optimizer = model.optimizer

def replicas_of(variable):
    return [v.numpy() for v in strategy.experimental_local_results(variable.value)]

columns = tuple(list(np.roll(texts, shift)) for shift in range(3))
data = tf.data.Dataset.from_tensors(columns).map(model.prepare)
[batch] = strategy.experimental_distribute_dataset(data)

@tf.function
def train_step():
    return strategy.run(model.train_step, args=(batch,))

def run(steps):
    for _ in range(steps):
        logs = train_step()
    [loss, *_] = strategy.experimental_local_results(logs["loss"])
    weights = [replicas_of(w) for w in model.trainable_variables]
    return dict(
        weights=weights,
        equal=all((r == w[0]).all() for w in weights for r in w),
        finite=all(np.isfinite(w[0]).all() for w in weights),
        scale=float(optimizer.dynamic_scale.numpy()),
        applied=int(optimizer.iterations.numpy()),
        loss=float(loss),
    )

optimizer.dynamic_scale.assign(1024.0)
spoiled.assign([replicas - 1, 2])
steps, weights = [], None
for index in range(6):
    step.assign(index)
    result = run(1)
    weights, before = result.pop("weights"), weights
    result["moved"] = index == 0 or any(
        (w[0] != b[0]).any() for w, b in zip(weights, before)
    )
    steps.append(result)
results = {"spoiled": steps}
spoiled.assign([-1, -1])
if runs:
    start = [w.numpy() for w in model.weights]
    ends = []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        for weight, value in zip(model.weights, start):
            if weight.name != "seed_generator_state":
                weight.assign(value + rng.normal(0, 0.02, value.shape))
        for variable in optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        # As high as a scale may climb: it overflows at first.
        optimizer.dynamic_scale.assign(2.0 ** 24)
        ends.append(run(20))
        del ends[-1]["weights"]
    results["runs"] = ends
json.dump(results, open(out, "w"))
"""


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("overflow")
    preset, out = make_preset(directory / "preset", layers=1), directory / "out.json"
    replicas, runs = request.param
    run_script(SCRIPT, preset, replicas, runs, out, *SENTENCES, cwd=ROOT)
    return json.loads(out.read_text())


# Replicas, and how many runs follow: some always, more where there is time.
SOME, MANY = (2, 8), (2, 50)


@pytest.mark.parametrize("results", [(1, 0), SOME], indirect=True)
def test_an_overflow_skips_the_step_everywhere_and_halves_the_scale(results):
    steps = results["spoiled"]
    assert [step["moved"] for step in steps] == [True, True, False, True, True, True]
    assert [step["scale"] for step in steps] == [1024] * 2 + [512] * 4
    assert [step["applied"] for step in steps] == [1, 2, 2, 3, 4, 5]
    assert all(step["equal"] for step in steps)
    assert all(step["finite"] for step in steps)
    losses = [step["loss"] for step in steps]
    assert not np.isfinite(losses[2])
    assert np.isfinite(losses[:2] + losses[3:]).all()


@pytest.mark.parametrize(
    "results", [SOME, pytest.param(MANY, marks=pytest.mark.attack)], indirect=True
)
def test_runs_with_two_replicas_end_finite_and_equal(results):
    ends = results["runs"]
    assert len(ends) >= 8
    for end in ends:
        assert end["finite"]
        assert end["equal"]
        assert np.isfinite(end["loss"])
        # Some steps overflowed, then the scale was low enough for the rest.
        assert 5 <= end["applied"] < 20


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_half_precision_are_not_trained(tiny_preset, dtype):
    model = SimCSE.from_preset(str(tiny_preset), dtype=dtype)
    with pytest.raises(UserError, match=f"float32.*received {dtype}"):
        model.compile("adam")
    rows = model.predict(["It still embeds."], verbose=0)
    assert rows.shape == (1, model.embedding_dim)
