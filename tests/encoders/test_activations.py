import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf, expit

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.activations import ACTIVATIONS, activation_of
from simcse_tf.encoders.ops import activate

# The definitions, in float64.
EXPECTED = {
    "identity": lambda x: x,
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_approximate": lambda x: (
        x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
    ),
    "quick_gelu": lambda x: x * expit(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))
    ),
    "silu": lambda x: x * expit(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sigmoid": expit,
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_functions_of_their_names(name):
    inputs = np.linspace(-9, 9, 301)
    received = activation_of(name)(tf.constant(inputs, tf.float32))
    np.testing.assert_allclose(received, EXPECTED[name](inputs), atol=2e-6, rtol=2e-6)


def test_gelu_has_the_same_values_in_the_form_that_is_fused():
    inputs = np.linspace(-9, 9, 301)
    received = activate(tf.constant(inputs, tf.float32), keras.activations.gelu, True)
    np.testing.assert_allclose(received, EXPECTED["gelu"](inputs), atol=2e-6)


def test_an_unknown_activation_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="one of .*gelu_approximate.*; received 'gelo'"):
        activation_of("gelo")
