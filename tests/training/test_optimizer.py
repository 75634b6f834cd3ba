import keras
import numpy as np
import pytest
import tensorflow as tf

from simcse_tf.training.optimizer import Adam, LinearDecay, adam


def test_the_rate_starts_at_the_peak_and_falls_linearly_to_zero():
    schedule = LinearDecay(3e-5, total_steps=10)
    rates = [float(schedule(step)) for step in range(12)]
    expected = [3e-5 * (10 - step) / 10 for step in range(10)] + [0, 0]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-12)


def test_warmup_rises_from_zero_to_the_peak():
    schedule = LinearDecay(1.0, total_steps=10, warmup_steps=4)
    rates = [float(schedule(step)) for step in range(11)]
    expected = [0, 0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    np.testing.assert_allclose(rates, expected, atol=1e-6)


def test_a_warmup_as_long_as_the_run_stays_finite():
    schedule = LinearDecay(1.0, total_steps=4, warmup_steps=4)
    assert np.isfinite([float(schedule(step)) for step in range(6)]).all()


def test_steps_equal_adam_written_out_in_numpy():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=3), rng.normal(size=(5, 3)) * 0.1
    variable = keras.Variable(start.astype("float32"), name="kernel")
    optimizer = adam(LinearDecay(0.1, 5), clip_norm=None)
    x, m, v = start.copy(), np.zeros(3), np.zeros(3)
    for step, g in enumerate(gradients, start=1):
        optimizer.apply([keras.ops.cast(g, "float32")], [variable])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rate = 0.1 * (5 - (step - 1)) / 5
        x -= rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    # 1 - 0.999 in float32 is good to 6e-5 of itself.
    np.testing.assert_allclose(variable.numpy(), x, atol=1e-4 * 0.1)


def test_weight_decay_spares_biases_and_layer_norm():
    variables = [
        keras.Variable(np.ones(2, "float32"), name=name)
        for name in ("kernel", "bias", "gamma", "beta")
    ]
    optimizer = adam(0.5, weight_decay=0.1)
    optimizer.apply([keras.ops.zeros(2)] * 4, variables)
    values = {v.name: float(v.numpy()[0]) for v in variables}
    np.testing.assert_allclose(values.pop("kernel"), 0.95, rtol=1e-6)
    assert set(values.values()) == {1.0}


def test_clipping_is_by_the_global_norm():
    variables = [keras.Variable([0.0]) for _ in range(2)]
    optimizer = adam(1.0, clip_norm=1.0)
    optimizer.apply([tf.constant([3.0]), tf.constant([4.0])], variables)
    # After the first step the first moment is a tenth of the clipped gradient.
    moments = [10 * each.numpy() for each in optimizer._momentums]
    np.testing.assert_allclose(np.concatenate(moments), [0.6, 0.8], rtol=1e-6)


def test_factors_of_the_step_are_computed_once_for_all_variables():
    variables = [keras.Variable(np.ones(2, np.float32)) for _ in range(5)]
    optimizer = adam(LinearDecay(0.1, 5))
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(gradients):
        optimizer.apply(gradients, variables)

    graph = step.get_concrete_function([tf.ones([2])] * 5).graph
    operations = [operation.type for operation in graph.get_operations()]
    assert operations.count("ResourceApplyAdam") == 5
    assert operations.count("Pow") == 2


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_an_update_that_xla_compiles_is_the_plain_one(clip_norm):
    start = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    plain, compiled = (keras.Variable(start) for _ in range(2))
    for variable in (plain, compiled):
        optimizer = adam(LinearDecay(0.01, 5), clip_norm=clip_norm)
        optimizer.build([variable])
        optimizer.jit_compile = variable is compiled
        for step in range(5):
            optimizer.apply([tf.random.stateless_normal(start.shape, [1, step])])
    assert np.abs(plain.numpy() - start).max() > 0.01
    np.testing.assert_allclose(compiled, plain, atol=1e-6)


def test_a_fused_update_is_that_of_keras_adam():
    settings = {"learning_rate": 0.01, "epsilon": 1e-8, "global_clipnorm": 1.0}
    start = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    ours, theirs = (keras.Variable(start) for _ in range(2))
    for optimizer, variable in (
        (Adam(**settings), ours),
        (keras.optimizers.Adam(**settings), theirs),
    ):
        optimizer.build([variable])
        for step in range(5):
            gradient = tf.random.stateless_normal(start.shape, [1, step]) * 10**-step
            optimizer.apply([gradient])
    assert np.abs(ours.numpy() - start).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
