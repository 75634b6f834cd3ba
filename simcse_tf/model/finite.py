"""Whether a model's numbers are finite."""

from collections.abc import Iterable

import keras
import tensorflow as tf

from simcse_tf.core.errors import NotFinite


def check_variables(variables: Iterable[keras.Variable], what: str) -> None:
    """Checks that no variable holds NaN or infinity, where it stands: one pass.

    Args:
        variables: `keras.Variable`s. Those of whole numbers are left out.
        what: string. What they are, for the message.

    Raises:
        NotFinite: If one does, which is a `UserError`; the message names it.

    Example:

    ```python
    check_variables(model.weights, "the weights of runs/mine/best")
    ```
    """
    floating = [each for each in variables if keras.backend.is_float_dtype(each.dtype)]
    if not floating:
        return
    finite = [tf.reduce_all(tf.math.is_finite(each.value)) for each in floating]
    # One answer from the device for all of them.
    for variable, is_finite in zip(floating, tf.stack(finite).numpy(), strict=True):
        if not is_finite:
            raise NotFinite(
                f"{what}: expected finite numbers, and {variable.path} holds NaN or "
                "infinity"
            )
