"""Products in int8, beside NumPy's and beside the encoder in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

from simcse_tf.core.errors import UserError
from simcse_tf.encoders import int8
from simcse_tf.encoders.int8 import Int8Products

ROWS, IN, OUT = 5, 16, 8
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(ROWS, IN)).astype(np.float32)
KERNEL = RANDOM.normal(size=(IN, OUT)).astype(np.float32)
BIAS = RANDOM.normal(size=OUT).astype(np.float32)


def made(inputs=INPUTS, kernel=KERNEL):
    pair = tf.constant(kernel), tf.constant(BIAS)
    return int8._int8_dense(pair, np.abs(inputs).max(axis=0))


def gelu(values):
    return values * 0.5 * (1 + erf(values / np.sqrt(2)))


def in_graph(function, *arguments):
    return tf.function(function, autograph=False)(*map(tf.constant, arguments)).numpy()


def test_a_product_is_that_of_the_rounded_numbers():
    weights = made()
    steps = np.rint(INPUTS * weights.inverse)
    assert np.abs(steps).max() == 127
    assert np.abs(weights.kernel).max() == 63
    expected = (steps @ weights.kernel.astype(np.float32)) * weights.scale + BIAS
    received = in_graph(lambda x: Int8Products().dense(x, weights), INPUTS)
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert np.abs(received - (INPUTS @ KERNEL + BIAS)).max() < 0.15


def test_a_residual_is_added():
    weights, residual = made(), np.full((ROWS, OUT), 3, np.float32)
    products = Int8Products()
    expected = in_graph(lambda x: products.dense(x, weights), INPUTS) + 3
    received = in_graph(
        lambda x, y: products.added(x, weights, y, tf.identity), INPUTS, residual
    )
    np.testing.assert_allclose(received, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "reference"),
    [(keras.activations.gelu, gelu), (keras.activations.tanh, np.tanh)],
    ids=["fused", "apart"],
)
def test_an_activation_between_two_products_is_rounded_to_its_range(
    activation, reference
):
    inner = reference(INPUTS @ KERNEL + BIAS)
    low, high = float(inner.min()), float(inner.max())
    second = RANDOM.normal(size=(OUT, IN)).astype(np.float32)
    shift = RANDOM.normal(size=IN).astype(np.float32)
    first = made()._replace(inner=(low, high))
    weights = int8._after_activation(
        (tf.constant(second), tf.constant(shift)), low, high
    )
    products = Int8Products()

    def both(x, residual):
        activated = products.activated(x, first, activation)
        return products.added(activated, weights, residual, tf.identity)

    received = in_graph(both, INPUTS, np.zeros((ROWS, IN), np.float32))
    exact = inner @ second + shift
    assert np.abs(received - exact).max() < 0.04 * np.abs(exact).max()


def test_a_row_does_not_depend_on_the_others():
    weights = made()
    dense = tf.function(lambda x: Int8Products().dense(x, weights), autograph=False)
    others = np.concatenate([INPUTS[:1], 1000 * INPUTS[1:]])
    np.testing.assert_array_equal(dense(INPUTS)[0], dense(others)[0])
    np.testing.assert_allclose(dense(INPUTS[:1]), dense(INPUTS)[:1], atol=1e-6)


def test_what_is_out_of_range_stays_at_its_end():
    weights = made()
    large = np.abs(INPUTS).max(axis=0, keepdims=True).astype(np.float32) * 100
    steps = np.full((1, IN), 127, np.float32)
    expected = (steps @ weights.kernel.astype(np.float32)) * weights.scale + BIAS
    received = in_graph(lambda x: Int8Products().dense(x, weights), large)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_channels_without_values_do_not_break_it():
    inputs, kernel = INPUTS.copy(), KERNEL.copy()
    inputs[:, 0] = kernel[1] = kernel[:, 2] = 0
    weights = made(inputs, kernel)
    received = in_graph(lambda x: Int8Products().dense(x, weights), inputs)
    assert np.abs(received - (inputs @ kernel + BIAS)).max() < 0.15


def test_all_products_of_bytes_fit_in_sixteen_bits():
    """A processor without VNNI adds two of them there."""
    assert 2 * 255 * int(np.abs(made().kernel).max()) < 2**15


def test_rows_of_the_table_are_near_its_own():
    table = int8._int8_table(KERNEL)
    received = in_graph(lambda ids: Int8Products().rows(table, ids), np.array([3, 0]))
    assert np.abs(received - KERNEL[[3, 0]]).max() <= np.abs(KERNEL).max() / 254 + 1e-6


def test_a_tensorflow_without_these_products_is_one_line(monkeypatch, tiny_preset):
    from simcse_tf import SimCSE

    monkeypatch.setattr(int8, "_PRODUCT", "_NoSuchProduct")
    with pytest.raises(UserError, match="no such products: expected one for x86"):
        SimCSE.from_preset(str(tiny_preset), dtype="int8")
