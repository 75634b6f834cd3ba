"""The activations that a setting may name, in feed-forward layers and in heads."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from simcse_tf.core.errors import UserError

Activation = Callable[[Any], Any]


def gelu_approximate(inputs: Any) -> Any:
    """GELU by its tanh approximation, as in Google's BERT.

    Example:

    ```python
    gelu_approximate(tf.constant([0.0, 1.0]))  # [0.0, 0.8412]
    ```
    """
    return keras.activations.gelu(inputs, approximate=True)


def quick_gelu(inputs: Any) -> Any:
    """GELU by a sigmoid, as in CLIP.

    Example:

    ```python
    quick_gelu(tf.constant([0.0, 1.0]))  # [0.0, 0.8458]
    ```
    """
    return inputs * ops.sigmoid(1.702 * inputs)


def leaky_relu(inputs: Any) -> Any:
    """ReLU with a slope of 0.01 below zero, PyTorch's default.

    Example:

    ```python
    leaky_relu(tf.constant([-1.0, 1.0]))  # [-0.01, 1.0]
    ```
    """
    return keras.activations.leaky_relu(inputs, negative_slope=0.01)


def relu_squared(inputs: Any) -> Any:
    """The square of ReLU.

    Example:

    ```python
    relu_squared(tf.constant([-1.0, 3.0]))  # [0.0, 9.0]
    ```
    """
    return ops.square(ops.relu(inputs))


# To add an activation, add a line.
ACTIVATIONS: dict[str, Activation] = {
    "identity": keras.activations.linear,
    "gelu": keras.activations.gelu,
    "gelu_approximate": gelu_approximate,
    "quick_gelu": quick_gelu,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "relu_squared": relu_squared,
    "leaky_relu": leaky_relu,
    "elu": keras.activations.elu,
    "selu": keras.activations.selu,
    "silu": keras.activations.silu,
    "mish": keras.activations.mish,
    "softplus": keras.activations.softplus,
    "sigmoid": keras.activations.sigmoid,
    "tanh": keras.activations.tanh,
}


def activation_of(name: str) -> Activation:
    """The activation of a name.

    Args:
        name: string. A key of `ACTIVATIONS`. `"gelu"` is the exact one.

    Raises:
        UserError: If there is no such activation.

    Example:

    ```python
    activation_of("relu")(tf.constant([-1.0, 1.0]))  # [0.0, 1.0]
    ```
    """
    if name not in ACTIVATIONS:
        raise UserError(
            f"activation must be one of {', '.join(ACTIVATIONS)}; received {name!r}"
        )
    return ACTIVATIONS[name]
