"""What runs outside a graph, where it would be placed on a GPU.

Eager operations of several threads race on a GPU: see `model/tokens.py`.
"""

import json
import threading

import numpy as np
import pytest
import tensorflow as tf
from support.forked import run_script
from support.models import ROOT, SENTENCES
from tensorflow.python import pywrap_tfe

from simcse_tf import SimCSE
from simcse_tf.encode import encode
from simcse_tf.model import bulk

TEXTS = [f"{text} {number}" for number in range(9) for text in SENTENCES]


@pytest.fixture
def eager_operations(monkeypatch):
    """The thread and the name of every operation that runs eagerly."""
    found = []

    def recorded(execute, position):
        def record(*arguments):
            name = arguments[position]
            name = name.decode() if isinstance(name, bytes) else name
            if not name.startswith("__inference_"):
                found.append((threading.current_thread(), name))
            return execute(*arguments)

        return record

    for function, position in (("TFE_Py_FastPathExecute", 1), ("TFE_Py_Execute", 2)):
        execute = getattr(pywrap_tfe, function)
        monkeypatch.setattr(pywrap_tfe, function, recorded(execute, position))
    return found


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_encoding_runs_nothing_outside_a_graph(
    tiny_preset, monkeypatch, eager_operations, dtype, gpus
):
    monkeypatch.setattr("simcse_tf.model.inference.gpus", lambda: ["CPU:0"] * gpus)
    for module in ("compilation", "inference"):
        name = f"simcse_tf.model.{module}.on_accelerator"
        monkeypatch.setattr(name, lambda: True)
    monkeypatch.setattr(bulk, "GPU_BATCHES", 16)
    model = SimCSE.from_preset(str(tiny_preset), dtype=dtype)
    eager_operations.clear()
    encode(model, TEXTS, batch_size=4)
    assert eager_operations == []


@pytest.mark.parametrize("made", [list, tf.data.Dataset.from_tensor_slices])
def test_predict_runs_nothing_outside_a_graph_on_other_threads(
    tiny_preset, eager_operations, made
):
    model = SimCSE.from_preset(str(tiny_preset), static_shapes=True)
    texts = made(TEXTS)
    eager_operations.clear()
    model.predict(texts, batch_size=4, verbose=0)
    assert {thread for thread, _ in eager_operations} <= {threading.main_thread()}


def test_an_eager_operation_is_seen(eager_operations):
    tf.gather(tf.constant([1.0, 2.0]), [1])
    assert "GatherV2" in {name for _, name in eager_operations}


@pytest.mark.slow
def test_a_gpus_way_of_encoding_gives_the_same_rows(tiny_preset, monkeypatch):
    model = SimCSE.from_preset(str(tiny_preset), static_shapes=True)
    expected = encode(model, TEXTS)
    monkeypatch.setattr("simcse_tf.model.compilation.on_accelerator", lambda: True)
    np.testing.assert_allclose(encode(model, TEXTS), expected, atol=1e-6)
    compiled = encode(model, TEXTS, batch_size=16, jit_compile=True)
    np.testing.assert_allclose(compiled, expected, atol=1e-6)


# In a process of its own, since the CPU can be split only before TensorFlow starts.
# Two logical CPU devices stand in for GPUs, beside the one that holds the weights.
REPLICAS = """
import json, sys
sys.path.insert(0, "tests/model")
import numpy as np
import tensorflow as tf
from simcse_tf import SimCSE
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.model import bulk
from simcse_tf.model import compilation, inference
from test_devices import TEXTS

preset, out = sys.argv[1:]
split_cpu(3)
devices = []
compilation.gpus = lambda: devices
inference.gpus, inference.on_accelerator = compilation.gpus, compilation.on_accelerator

class Watched(SimCSE):
    def inference(self, *arguments):
        embed = super().inference(*arguments)

        def watched(*arrays):
            embedded = embed(*arrays)
            ran.append(embedded.device[-5:])
            return embedded

        return watched

def encode(*names):
    global devices, ran
    devices, ran = names, []
    return bulk.encode(model, TEXTS, batch_size=4)

found = {}
for dtype in ("float32", "mixed_bfloat16"):
    model = Watched.from_preset(preset, dtype=dtype, max_length=16)
    one, several = encode("CPU:0"), encode("CPU:1", "CPU:2")
    used = sorted(set(ran))
    with tf.device("CPU:1"):
        copies = tf.nest.flatten(model._inference._weights())
    model.set_weights([0.9 * each for each in model.get_weights()])
    after_step = encode("CPU:1", "CPU:2")
    found[dtype] = {
        "used": used,
        "copies": sorted({each.device[-5:] for each in copies}),
        "equal": np.array_equal(one, several),
        "moved": not np.array_equal(one, after_step),
        "equal after a step": np.array_equal(encode("CPU:0"), after_step),
    }

devices = []
with strategy_of("mirrored").scope():
    mirrored = SimCSE.from_preset(preset)
models = mirrored, SimCSE.from_preset(preset)
rows = [each.predict(TEXTS, verbose=0) for each in models]
found["predict"] = np.abs(rows[0] - rows[1]).max().item()
json.dump(found, open(out, "w"))
"""


@pytest.mark.slow
def test_every_gpu_computes_batches_with_a_copy_of_the_weights(tiny_preset, tmp_path):
    out = tmp_path / "out.json"
    run_script(REPLICAS, tiny_preset, out, cwd=ROOT)
    results = json.loads(out.read_text())
    assert results.pop("predict") < 1e-6
    for found in results.values():
        assert found.pop("used") == ["CPU:1", "CPU:2"]
        assert found.pop("copies") == ["CPU:1"]
        assert set(found.values()) == {True}, found
