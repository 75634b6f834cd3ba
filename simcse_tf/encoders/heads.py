"""What stands between a pooled vector and the embedding: dense layers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.activations import activation_of


class DenseLayer(NamedTuple):
    """One dense layer of a head, as the setting `dense` describes it.

    Attributes:
        units: int. Columns of what it returns.
        activation: string. A key of `simcse_tf.encoders.activations.ACTIVATIONS`.
        use_bias: bool.
    """

    units: int
    activation: str = "tanh"
    use_bias: bool = True


def parse_dense(dense: Sequence[Mapping[str, Any]]) -> list[DenseLayer]:
    """Checks the setting `dense`.

    Args:
        dense: Dictionaries with the fields of `DenseLayer`.

    Raises:
        UserError: If one of them has other keys, or values that do not fit.

    Example:

    ```python
    parse_dense([{"units": 64}])  # [DenseLayer(64, "tanh", True)]
    ```
    """
    layers = []
    for each in dense:
        if "units" not in each or not set(each) <= set(DenseLayer._fields):
            raise UserError(
                f"dense: expected the keys {', '.join(DenseLayer._fields)}; received "
                f"{', '.join(map(str, each)) or 'none'}"
            )
        layer = DenseLayer(**each)
        if not (isinstance(layer.units, int) and layer.units > 0):
            raise UserError(f"dense: units must be positive; received {layer.units!r}")
        if not isinstance(layer.use_bias, bool):
            raise UserError(
                f"dense: use_bias must be a bool; received {layer.use_bias!r}"
            )
        activation_of(layer.activation)
        layers.append(layer)
    return layers


def mlp_head(width: int, dtype: Any) -> keras.layers.Dense:
    """The paper's head: one dense layer with tanh, as wide as its input.

    Args:
        width: int. Columns of the pooled vector.
        dtype: The dtype policy to compute with.

    Example:

    ```python
    mlp_head(768, "float32")(pooled)  # (n, 768)
    ```
    """
    head = _dense(DenseLayer(width), dtype, "head")
    head.build((None, width))
    return head


def dense_head(
    layers: Sequence[DenseLayer], width: int, dtype: Any
) -> keras.Sequential:
    """A stack of dense layers.

    Args:
        layers: The layers, the first one first.
        width: int. Columns of the pooled vector.
        dtype: The dtype policy to compute with.

    Example:

    ```python
    dense_head([DenseLayer(64)], 768, "float32")(pooled)  # (n, 64)
    ```
    """
    stack = [_dense(each, dtype, f"dense_{i}") for i, each in enumerate(layers)]
    head = keras.Sequential(stack, name="head")
    head.build((None, width))
    return head


def head_tensors(head: keras.layers.Layer) -> dict[str, np.ndarray]:
    """A head's weights by the names that they have in a file.

    Args:
        head: What `mlp_head` or `dense_head` made.

    Returns:
        Dictionary of `"kernel"` and `"bias"` of the paper's head, and of
        `"dense_0.kernel"` and so on of a stack, in the order of
        `head.get_weights()`.

    Example:

    ```python
    list(head_tensors(mlp_head(768, "float32")))  # ["kernel", "bias"]
    ```
    """
    if isinstance(head, keras.layers.Dense):
        return {v.name: v.numpy() for v in head.weights}
    return {
        f"{layer.name}.{v.name}": v.numpy()
        for layer in head.layers
        for v in layer.weights
    }


def _dense(layer: DenseLayer, dtype: Any, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(
        layer.units,
        activation=activation_of(layer.activation),
        use_bias=layer.use_bias,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        dtype=dtype,
        name=name,
    )
