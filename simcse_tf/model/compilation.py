"""What XLA compiles of a training step, and for which shapes.

A compiled step runs in a fraction of the time on a GPU. It is compiled anew for every
shape, which takes up to a minute, so batches are padded to a few lengths.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from simcse_tf.core.errors import UserError
from simcse_tf.distributed.strategy import gpus

JitCompile = bool | str
# A kernel's tiles are multiples of it.
_LENGTHS_MULTIPLE = 8


def on_accelerator() -> bool:
    """Whether TensorFlow computes on GPUs or TPUs here.

    Example:

    ```python
    on_accelerator()  # False on a machine without any
    ```
    """
    return bool(gpus()) or on_tpu()


def on_tpu() -> bool:
    """Whether the present strategy computes on a TPU, which compiles every step.

    Example:

    ```python
    on_tpu()  # True in the scope of a `tf.distribute.TPUStrategy`
    ```
    """
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def padded_lengths(max_length: int) -> list[int]:
    """The lengths that batches of static shapes are padded to, ascending.

    Args:
        max_length: int. The longest.

    Example:

    ```python
    padded_lengths(32)  # [16, 24, 32]; on a TPU [32]
    ```
    """
    if on_tpu():
        # Its shapes must be known when the step is traced.
        return [max_length]
    parts = [max_length // 2, max_length * 3 // 4]
    rounded = {-(-part // _LENGTHS_MULTIPLE) * _LENGTHS_MULTIPLE for part in parts}
    return sorted({min(length, max_length) for length in rounded} | {max_length})


def is_compiled(jit_compile: JitCompile, static_model: bool, static_loss: bool) -> bool:
    """Whether XLA is to compile a training step, beyond what a TPU compiles anyway.

    Args:
        jit_compile: bool or string. `"auto"`: on accelerators, where it can.
        static_model: bool. Whether the model has static shapes.
        static_loss: bool. Whether the objective has.

    Raises:
        UserError: If it is asked for and cannot be.

    Example:

    ```python
    is_compiled("auto", static_model=True, static_loss=True)  # True on a GPU
    ```
    """
    possible = static_model and static_loss
    if jit_compile is True and not possible:
        what = (
            "the objective has not"
            if static_model
            else "a model has with static_shapes=True"
        )
        raise UserError(
            f"jit_compile: XLA compiles steps of static shapes, which {what}; expected "
            '"auto" or False (training.compile: none), received True'
        )
    wanted = on_accelerator() if jit_compile == "auto" else jit_compile
    return bool(wanted) and possible and not on_tpu()


def compiled(function: Callable[..., Any]) -> Any:
    """A function that XLA compiles, once for each shape of its arguments.

    It must not touch int32 variables: on a GPU they stand in the host's memory.

    Args:
        function: Function of tensors. What it computes depends on them, on constants
            and on variables.

    Example:

    ```python
    compiled(lambda x: tf.nn.softmax(2 * x))(tf.ones([2, 3]))
    ```
    """
    return tf.function(function, jit_compile=True, autograph=False)
