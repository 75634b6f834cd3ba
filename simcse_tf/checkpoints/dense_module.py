"""A Dense module of sentence-transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simcse_tf.checkpoints.tensors import read_tensors
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json

# PyTorch's classes and our names. Made without arguments, as the module makes them.
ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sigmoid": "sigmoid",
}
_TANH = "torch.nn.modules.activation.Tanh"
_EMBEDDING = "sentence_embedding"


class DenseModule(NamedTuple):
    """A dense layer behind the pooling.

    Attributes:
        inputs: int. Columns of what it reads.
        units: int. Columns of what it returns.
        activation: string. In our names.
        weights: Kernel `(inputs, units)`, and bias `(units,)` where there is one.
    """

    inputs: int
    units: int
    activation: str
    weights: list[np.ndarray]

    def setting(self) -> dict[str, object]:
        """The layer as the setting `dense` describes it."""
        return {
            "units": self.units,
            "activation": self.activation,
            "use_bias": len(self.weights) > 1,
        }


def read_dense(directory: Path) -> DenseModule:
    """Reads a Dense module's directory.

    Args:
        directory: Such as `2_Dense`.

    Raises:
        UserError: If it computes anything but one layer, or is broken.

    Example:

    ```python
    read_dense(Path("model/2_Dense")).units  # 64
    ```
    """
    path = directory / "config.json"
    config = dict(read_json(path))
    sizes = config.pop("in_features", None), config.pop("out_features", None)
    has_bias = config.pop("bias", True)
    activation = _activation(config.pop("activation_function", _TANH), path)
    for key, value in config.items():
        harmless = (None, _EMBEDDING) if key.startswith("module_") else (None, False)
        if value not in harmless:
            raise UserError(f"{path}: {key} is {value!r}, which is not computed here")
    tensors, file, _ = read_tensors(directory)
    expected: dict[str, tuple[int, ...]] = {"linear.weight": sizes[::-1]}
    if has_bias:
        expected["linear.bias"] = (sizes[1],)
    received = {name: tensor.shape for name, tensor in tensors.items()}
    if received != expected:
        raise UserError(
            f"{directory / file}: expected tensors of the shapes {expected}, as "
            f"config.json says; received {received}"
        )
    weights = [tensors["linear.weight"].T.astype(np.float32)]
    if has_bias:
        weights.append(tensors["linear.bias"].astype(np.float32))
    return DenseModule(sizes[0], sizes[1], activation, weights)


def is_cls_head(dense: Sequence[DenseModule]) -> bool:
    """Whether dense layers are what `cls` pooling has: one with tanh, square.

    Example:

    ```python
    is_cls_head([read_dense(Path("model/2_Dense"))])
    ```
    """
    if len(dense) != 1:
        return False
    [layer] = dense
    square = layer.inputs == layer.units
    return square and layer.activation == "tanh" and len(layer.weights) == 2


def _activation(name: str, path: Path) -> str:
    package, _, kind = name.rpartition(".")
    if package.partition(".")[0] != "torch" or kind not in ACTIVATIONS:
        raise UserError(
            f"{path}: the activation {name} is not computed here: expected one of "
            f"torch.nn's {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[kind]
