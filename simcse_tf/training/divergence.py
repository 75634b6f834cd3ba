"""What ends a run whose numbers are no longer finite."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from simcse_tf.core.errors import Diverged, NotFinite
from simcse_tf.model.finite import check_variables
from simcse_tf.training import checkpoint
from simcse_tf.training.checkpoint import Progress
from simcse_tf.training.run_directory import RunDirectory

Logs = dict[str, Any] | None

# Halved 26 times more often than doubled, from Keras' 2^15 on: no smaller scale helps.
# Long before float32 has no smaller number, from where on weights would become NaN.
SMALLEST_LOSS_SCALE = 2.0**-10
_TOO_FAST = ", and training.learning_rate may be too high"
_OVERFLOWS = (
    "; mixed_float16 overflows: set training.precision to mixed_bfloat16, or lower "
    "training.learning_rate"
)


class Guard(keras.callbacks.Callback):
    """Runs callbacks one after the other, up to the first `NotFinite`.

    It does not raise: the step is yet to be logged, and all workers must stop at the
    same one. `Checkpoint` ends the run.

    Args:
        callbacks: Callbacks of which some raise `NotFinite`.

    Attributes:
        trouble: Optional `NotFinite`. What was not finite, once something was not.

    Example:

    ```python
    guard = Guard([LossWatch(progress, last_step=1000)])
    model.fit(x, callbacks=[StepClock(progress, 64), guard])
    ```
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        super().__init__()
        self.callbacks = callbacks
        self.trouble: NotFinite | None = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        try:
            for callback in self.callbacks:
                callback.on_train_batch_end(batch, logs)
        except NotFinite as error:
            self.trouble = error


class LossWatch(keras.callbacks.Callback):
    """Raises `NotFinite` if a step's loss says that the run has diverged.

    With loss scaling a step that overflows is skipped, and its loss may be anything.
    A run has diverged then if the scale falls below `SMALLEST_LOSS_SCALE`, or if most
    of its steps were skipped by its end.

    Args:
        progress: A `Progress`, kept up to date by a `StepClock`.
        last_step: int. The run's last step, counted from 1.

    Example:

    ```python
    LossWatch(progress, last_step=1000)
    ```
    """

    def __init__(self, progress: Progress, last_step: int):
        super().__init__()
        self.progress = progress
        self.last_step = last_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        logs, step = logs or {}, self.progress.step
        if "loss_scale" not in logs:
            loss = float(logs.get("loss", 0.0))
            if not math.isfinite(loss):
                raise NotFinite(f"the loss is {loss}{_TOO_FAST}")
            return
        scale, skipped = logs["loss_scale"], logs["skipped_steps"]
        if scale < SMALLEST_LOSS_SCALE:
            raise NotFinite(
                f"the loss scale fell to {scale:.2g}, {skipped} of {step} steps were "
                f"skipped{_OVERFLOWS}"
            )
        if step == self.last_step and 2 * skipped > step:
            raise NotFinite(f"{skipped} of {step} steps were skipped{_OVERFLOWS}")


def check_weights(model: keras.Model) -> None:
    """Checks all that a checkpoint holds of a model and its optimizer.

    A loss can be finite while they are not: it is that of the weights before the step,
    and of the tokens of one batch.

    Args:
        model: A compiled model.

    Raises:
        NotFinite: If a number is not finite; the message names the variable.

    Example:

    ```python
    check_weights(model)
    ```
    """
    check_variables(model.weights, "the weights")
    check_variables(model.optimizer.variables, "the optimizer's state")


def diverged(trouble: NotFinite | None, step: int, run: str | None) -> Diverged:
    """Makes the `Diverged` of a run.

    Args:
        trouble: What was not finite; `None` if another worker knows.
        step: int. The step, counted from 1.
        run: Optional string. The run's directory, of which the message tells the last
            checkpoint. `None` where another worker writes it.

    Example:

    ```python
    raise diverged(NotFinite("the loss is nan"), progress.step, "runs/mine")
    ```
    """
    what = trouble or "another worker's line says why"
    return Diverged(f"diverged at step {step}: {what}{_kept(run) if run else ''}")


def _kept(run: str) -> str:
    saved = checkpoint.load_progress(run)
    if saved is None:
        return "; there is no checkpoint yet"
    last = RunDirectory(run).last
    return f"; {last} is from before, of step {saved.step}"
