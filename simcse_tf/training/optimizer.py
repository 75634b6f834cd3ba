"""The paper's optimizer: Adam, clipped, with a learning rate that falls to zero."""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from simcse_tf.model.compilation import compiled


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
    gradients. Gradients are dense. A replica updates its own copy of each variable, so
    an update asks nothing of the others.

    Attributes:
        jit_compile: bool. Whether XLA compiles clipping and the update of all variables
            as one function, apart from the step. Defaults to `False`.

    Example:

    ```python
    model.compile(Adam(3e-5, global_clipnorm=1.0))
    ```
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.jit_compile = False
        self._compiled_update = compiled(self._update)

    def _clip_gradients(self, gradients: list[tf.Tensor | None]) -> list[Any]:
        # By their global norm they are clipped in the function that updates.
        return gradients if self.global_clipnorm else super()._clip_gradients(gradients)

    def _backend_update_step(
        self, gradients: list[tf.Tensor], variables: list[Any], learning_rate: tf.Tensor
    ) -> None:
        pairs = self._all_reduce_sum_gradients(
            list(zip(gradients, variables, strict=True))
        )
        summed = [gradient for gradient, _ in pairs]
        places = [self._get_variable_index(variable) for variable in variables]
        update = self._compiled_update if self.jit_compile else self._update
        # A rate that does not change is a variable.
        rate = tf.convert_to_tensor(learning_rate)
        update(summed, places, rate, self.iterations + 1)

    def _update(
        self,
        gradients: list[tf.Tensor],
        places: list[int],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        """Clips the gradients of the variables at some places, and updates these."""
        if self.global_clipnorm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.global_clipnorm)

        @functools.cache
        def factors(dtype: str) -> dict[str, tf.Tensor]:
            """Once a step, not once a variable: each is some operations."""
            count = ops.cast(step, dtype)
            return {
                "beta1_power": ops.power(ops.cast(self.beta_1, dtype), count),
                "beta2_power": ops.power(ops.cast(self.beta_2, dtype), count),
                "lr": ops.cast(learning_rate, dtype),
            }

        for gradient, place in zip(gradients, places, strict=True):
            variable = self._trainable_variables[place]
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[place].value.handle,
                v=self._velocities[place].value.handle,
                **factors(variable.dtype),
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
