"""The paper's optimizer: Adam, clipped, with a learning rate that falls to zero."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable("simcse_tf")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 over `warmup_steps`, then falls linearly to 0.

    Args:
        learning_rate: float. The peak.
        total_steps: int. The step (counted from 0) at which the rate is 0.
        warmup_steps: int. Defaults to `0`: the first step runs at the peak.

    Example:

    ```python
    float(LinearDecay(5e-5, total_steps=100)(50))  # 2.5e-05
    ```
    """

    def __init__(self, learning_rate: float, total_steps: int, warmup_steps: int = 0):
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rise = step / max(self.warmup_steps, 1)
        fall = (self.total_steps - step) / max(self.total_steps - self.warmup_steps, 1)
        factor = ops.where(step < self.warmup_steps, rise, ops.maximum(fall, 0.0))
        return self.learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable("simcse_tf")
class Adam(keras.optimizers.Adam):
    """Keras' Adam, with one operation instead of fifteen to update a variable.

    A large embedding table goes through memory once, and once more for the norm of all
    gradients. Gradients are dense.

    Example:

    ```python
    model.compile(Adam(3e-5, global_clipnorm=1.0))
    ```
    """

    def _clip_gradients(self, gradients: list[tf.Tensor | None]) -> list[Any]:
        if not self.global_clipnorm:
            return super()._clip_gradients(gradients)
        clipped, _ = tf.clip_by_global_norm(gradients, self.global_clipnorm)
        return clipped

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), step),
            beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), step),
            lr=ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=ops.cast(gradient, variable.dtype),
        )


def adam(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
) -> keras.optimizers.Optimizer:
    """Adam as the paper trains with it.

    Args:
        learning_rate: float or schedule.
        weight_decay: float. Decoupled decay, never applied to biases and
            LayerNorm parameters. Defaults to `0.0`.
        clip_norm: Optional float. The gradient's global norm is clipped to it.
            Defaults to `1.0`.

    Returns:
        An `Adam`.

    Example:

    ```python
    model.compile(adam(LinearDecay(5e-5, total_steps=1000)))
    ```

    Reference:
        - [Loshchilov and Hutter 2019](https://arxiv.org/abs/1711.05101)
    """
    optimizer = Adam(
        learning_rate,
        weight_decay=weight_decay or None,
        global_clipnorm=clip_norm,
        epsilon=1e-8,
    )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
