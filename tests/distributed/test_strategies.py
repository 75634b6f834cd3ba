import functools
import itertools

import numpy as np
import pytest
from support.forked import run_script
from support.models import ROOT, SENTENCES, make_preset

from simcse_tf.distributed.strategy import strategy_of

pytestmark = pytest.mark.slow

# In a process of its own, since the CPU can be split only before TensorFlow starts.
# After its first step Adam's first moment is a tenth of the clipped gradient.
SCRIPT = """
import sys
import keras, numpy as np, tensorflow as tf
from simcse_tf import SimCSE
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.training.optimizer import adam

preset, replicas, columns, out, *texts = sys.argv[1:]
split_cpu(int(replicas))
strategy = strategy_of("mirrored" if int(replicas) > 1 else "none")
assert strategy.num_replicas_in_sync == int(replicas)
batches = [np.roll(texts, 3 * step) for step in range(5)]
data = tf.data.Dataset.from_tensor_slices(
    tuple([np.roll(batch, shift) for batch in batches] for shift in range(int(columns)))
)
with strategy.scope():
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(preset, pooling="avg", dropout=0.0, max_length=32,
                               hard_negative_weight=0.5)
    model.compile(adam(1e-3, clip_norm=0.1))
losses, gradients = [], []

def record(batch, logs):
    losses.append(logs["loss"])
    if not gradients:
        gradients.extend(10 * m.numpy() for m in model.optimizer._momentums)

model.fit(data, verbose=0,
          callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=record)])
arrays = {f"gradient{i}": g for i, g in enumerate(gradients)}
arrays.update({f"weight{i}": w for i, w in enumerate(model.get_weights())})
np.savez(out, losses=losses, **arrays)
"""
COLUMNS = {"sentences": 1, "pairs": 2, "triplets": 3}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """What some replicas compute from the same five batches of 8; each run once."""
    directory = tmp_path_factory.mktemp("runs")
    preset = make_preset(directory / "preset", layers=1)

    @functools.cache
    def train(kind, replicas):
        out = directory / f"{kind}-{replicas}.npz"
        arguments = [preset, replicas, COLUMNS[kind], out, *SENTENCES]
        run_script(SCRIPT, *arguments, cwd=ROOT)
        return np.load(out)

    return train


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [
        ("triplets", 2),
        *(
            pytest.param(*case, marks=pytest.mark.attack)
            for case in itertools.product(COLUMNS, (2, 4))
            if case != ("triplets", 2)
        ),
    ],
)
def test_replicas_compute_the_step_of_one_device(train, kind, replicas):
    one, many = train(kind, 1), train(kind, replicas)
    np.testing.assert_allclose(many["losses"][0], one["losses"][0], rtol=1e-5)
    gradients = [name for name in one.files if name.startswith("gradient")]
    largest = max(np.abs(one[name]).max() for name in gradients)
    assert largest > 0
    for name in gradients:
        np.testing.assert_allclose(
            many[name], one[name], rtol=1e-5, atol=1e-5 * largest
        )
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-4)
    for name in one.files:
        if name.startswith("weight"):
            np.testing.assert_allclose(many[name], one[name], atol=1e-4)


def test_replicas_read_their_parts_of_the_batch_in_order():
    script = """
import tensorflow as tf
from simcse_tf.distributed.strategy import distribute, split_cpu, strategy_of
split_cpu(4)
strategy = strategy_of("mirrored")
seen = []
def batches(replicas, own):
    assert (replicas, own) == (4, range(4))
    # Each part is of another length, as padded sentences are.
    return tf.data.Dataset.range(8).map(lambda i: tf.range(i))
steps = iter(distribute(strategy, batches))
for first in (0, 4, 0):
    found = [len(part) for part in strategy.experimental_local_results(next(steps))]
    assert found == list(range(first, first + 4)), found
"""
    run_script(script, cwd=ROOT)


def test_an_unknown_strategy_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"auto, none, mirrored.*'ring'"):
        strategy_of("ring")
