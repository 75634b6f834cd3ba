"""Steps that XLA compiles: the same losses, on one device and on several."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.forked import run_script
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.model import compilation
from simcse_tf.model.compilation import is_compiled, padded_lengths
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.training.optimizer import adam

pytestmark = pytest.mark.keras

TEXTS = [f"{text} {'so ' * (i % 7)}{i}" for i in range(5) for text in SENTENCES]
TRIPLETS = TEXTS, TEXTS[::-1], TEXTS[3:] + TEXTS[:3]


def losses(preset, **options):
    """Of twenty steps."""
    return trained(compiled_model(preset, **options))


def compiled_model(
    preset, *, dropout=0.0, dtype="float32", static_shapes=True, **options
):
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(
        str(preset),
        pooling="avg",
        dropout=dropout,
        dtype=dtype,
        max_length=16,
        static_shapes=static_shapes,
    )
    model.compile(adam(1e-3), **options)
    return model


def trained(model):
    found = []
    log = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: found.append(float(logs["loss"]))
    )
    model.fit(
        TRIPLETS, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[log]
    )
    return np.array(found)


@pytest.fixture(scope="module")
def expected(tiny_preset):
    """Without XLA, padding left out."""
    return losses(tiny_preset, static_shapes=False, jit_compile=False)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_losses_of_twenty_steps_are_those_without_xla(
    tiny_preset, expected, micro_batch_size
):
    compiled = losses(tiny_preset, jit_compile=True, micro_batch_size=micro_batch_size)
    assert len(compiled) == 20
    np.testing.assert_allclose(compiled, expected, atol=2e-4)
    assert compiled[-1] < compiled[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.attack)]
)
def test_half_precision_is_near(tiny_preset, expected, dtype):
    compiled = losses(tiny_preset, jit_compile=True, dtype=dtype)
    np.testing.assert_allclose(compiled, expected, atol=0.1)


@pytest.mark.slow
def test_dropout_follows_from_the_seed(tiny_preset):
    model = compiled_model(tiny_preset, jit_compile=True, dropout=0.3)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start = [variable.numpy() for variable in variables]
    batch = model.prepare(*(column[:8] for column in TRIPLETS))

    def steps():
        return [float(model.train_on_batch(batch)) for _ in range(3)]

    one = steps()
    assert len({*one}) == 3
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    assert steps() == one
    model.seed_generator.state.assign([1, 2])
    assert steps() != one


@pytest.mark.slow
def test_a_replicas_parts_compiled_apart_give_the_same_losses(tiny_preset, expected):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        found = losses(tiny_preset, jit_compile=True)
    np.testing.assert_allclose(found, expected, atol=2e-4)


# In a process of its own, since the CPU can be split only before TensorFlow starts.
# XLA does not compile for a second logical CPU: the parts run as they are traced.
REPLICAS = """
import json, sys
sys.path.insert(0, "tests/model")
import tensorflow as tf
import test_compilation
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.model import simcse
from simcse_tf.training import optimizer

preset, out = sys.argv[1:]
split_cpu(2)
strategy = strategy_of("mirrored")
with strategy.scope():
    model = test_compilation.compiled_model(preset, jit_compile=True)
texts = test_compilation.TEXTS[:4]
batch = model.prepare(texts, texts[::-1])
step = tf.function(lambda: strategy.run(model.train_step, args=(batch,)))
graph = step.get_concrete_function().graph.as_graph_def()
compiled = {
    function.signature.name: [node.op for node in function.node_def]
    for function in graph.library.function
    if function.attr["_XlaMustCompile"].b
}
calls = [
    (node.device[-5:], compiled[node.attr["f"].func.name])
    for node in graph.node
    if node.attr["f"].func.name in compiled
]

simcse.compiled = optimizer.compiled = lambda each: tf.function(each, autograph=False)
with strategy.scope():
    losses = test_compilation.losses(preset, jit_compile=True)
json.dump({"calls": calls, "losses": losses.tolist()}, open(out, "w"))
"""


@pytest.mark.slow
def test_each_replica_compiles_forward_and_backward_pass_and_one_update(
    tiny_preset, expected, tmp_path
):
    out = tmp_path / "out.json"
    run_script(REPLICAS, tiny_preset, out, cwd=ROOT)
    found = json.loads(out.read_text())
    np.testing.assert_allclose(found["losses"], expected, atol=2e-4)
    variables = len(compiled_model(tiny_preset).trainable_variables)
    for device in ("CPU:0", "CPU:1"):
        parts = [operations for place, operations in found["calls"] if place == device]
        updates = [part.count("ResourceApplyAdam") for part in parts]
        assert sorted(updates) == [0, 0, variables]
        # Clipping is in the same function; the scalars are there once.
        update = parts[updates.index(variables)]
        assert update.count("L2Loss") == variables
        assert update.count("Pow") == 2


def test_what_is_compiled(monkeypatch):
    assert is_compiled(True, True, True)
    assert not is_compiled(False, True, True)
    assert not is_compiled("auto", True, True)
    monkeypatch.setattr(compilation, "on_accelerator", lambda: True)
    assert is_compiled("auto", True, True)
    assert not is_compiled("auto", True, static_loss=False)
    monkeypatch.setattr(compilation, "on_tpu", lambda: True)
    assert not is_compiled("auto", True, True)


def test_a_step_that_xla_cannot_compile_is_refused(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset))
    with pytest.raises(UserError, match="a model has with static_shapes=True"):
        model.compile("adam", jit_compile=True)
    model = SimCSE.from_preset(str(tiny_preset), static_shapes=True)
    objective = Contrastive() + MaskedLM(0.1)
    with pytest.raises(UserError, match="the objective has not"):
        model.compile("adam", objective=objective, jit_compile=True)
    model.compile("adam", objective=objective)
    assert not model.step_is_compiled


def test_all_columns_of_a_batch_are_padded_to_the_next_length(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset), max_length=32, static_shapes=True)
    assert padded_lengths(32) == [16, 24, 32]
    assert padded_lengths(10) == [8, 10]
    for words, length in ((3, 16), (14, 16), (15, 24), (40, 32)):
        batch = model.prepare(["short", "er"], ["word " * words, "x"])
        columns = batch["anchor"], batch["positive"]
        shapes = {column["token_ids"].shape for column in columns}
        assert shapes == {(2, length)}
