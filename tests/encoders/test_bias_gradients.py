"""The gradient of a bias: a product in half precision on a GPU, where XLA is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.encoders import ops
from simcse_tf.training.optimizer import adam

HALF = ("float16", "bfloat16")


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(ops, "gpus", lambda: ["CPU:0"])


def gradient(dtype, jit_compile=False):
    """A dense layer's, and the operations of all that computes it."""
    rows, kernel, upstream = (
        tf.cast(tf.random.stateless_normal(shape, [1, size]), dtype)
        for size, shape in enumerate([(64, 8), (8, 5), (64, 5)])
    )

    @tf.function(autograph=False, jit_compile=jit_compile)
    def compute(bias):
        with tf.GradientTape() as tape:
            tape.watch(bias)
            loss = tf.reduce_sum(ops.dense(rows, (kernel, bias)) * upstream)
        return tape.gradient(loss, bias)

    bias = tf.zeros([5], dtype)
    graph = compute.get_concrete_function(bias).graph
    operations = {operation.type for operation in graph.get_operations()}
    return compute(bias), tf.reduce_sum(tf.cast(upstream, "float64"), 0), operations


@pytest.mark.parametrize("dtype", HALF)
def test_it_is_the_sum_over_rows(on_gpu, dtype):
    found, expected, operations = gradient(dtype)
    np.testing.assert_allclose(tf.cast(found, "float64"), expected, rtol=1e-2)
    assert "BiasAddGrad" not in operations


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_elsewhere_it_is_tensorflows_own(dtype):
    assert "BiasAddGrad" in gradient(dtype)[-1]


def test_in_float32_it_is_tensorflows_own(on_gpu):
    assert "BiasAddGrad" in gradient("float32")[-1]


def test_xla_gets_tensorflows_own(on_gpu):
    assert "BiasAddGrad" in gradient("bfloat16", jit_compile=True)[-1]


@pytest.mark.slow
def test_steps_have_the_losses_of_tensorflows_own(tiny_preset, monkeypatch):
    def losses():
        keras.utils.set_random_seed(1)
        model = SimCSE.from_preset(str(tiny_preset), dtype="mixed_bfloat16")
        model.compile(adam(1e-3), jit_compile=False)
        batch = SENTENCES[:4], SENTENCES[4:8]
        return [float(model.train_on_batch(*batch)) for _ in range(5)]

    expected = losses()
    monkeypatch.setattr(ops, "gpus", lambda: ["CPU:0"])
    np.testing.assert_allclose(losses(), expected, atol=0.02)
    assert expected[-1] < expected[0]
