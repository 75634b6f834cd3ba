"""What happens beside the steps: STS evaluation, checkpoints, the run's log."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from simcse_tf import checkpoint
from simcse_tf.checkpoint import Progress
from simcse_tf.files import whole_file

Scores = dict[str, float]
Logs = dict[str, Any] | None

# The paper selects checkpoints by STS-B; without it the mean decides.
SELECTION_TASK = "STSBenchmark"


class StepCallback(keras.callbacks.Callback, ABC):
    """A callback that acts every few steps, and after the run's last.

    Args:
        every: int. Steps from one action to the next.
        last_step: int. The run's last step, counted from 1.
    """

    def __init__(self, every: int, last_step: int):
        super().__init__()
        self.every = every
        self.last_step = last_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        if step % self.every == 0 or step == self.last_step:
            self.act(step, {} if logs is None else logs)

    @abstractmethod
    def act(self, step: int, logs: dict[str, Any]) -> None:
        """Acts after `step` steps; what it adds to `logs` is logged."""


class STSEvaluation(StepCallback):
    """Evaluates the model while it trains, and saves it whenever it is the best.

    The scores join the step's logs as `dev_...`, for the callbacks after this one.

    Args:
        evaluate: Function of the model that returns its scores by task and their
            mean as `"avg"`.
        best_dir: string. Where the best model is saved.
        progress: A `Progress`, kept up to date.
        every: int. Steps from one evaluation to the next.
        last_step: int. The run's last step, counted from 1.
    """

    def __init__(
        self,
        evaluate: Callable[[keras.Model], Scores],
        best_dir: str,
        progress: Progress,
        every: int,
        last_step: int,
    ):
        super().__init__(every, last_step)
        self.evaluate = evaluate
        self.best_dir = best_dir
        self.progress = progress

    def act(self, step: int, logs: dict[str, Any]) -> None:
        scores = self.evaluate(self.model)
        logs.update({f"dev_{task}": score for task, score in scores.items()})
        score = scores.get(SELECTION_TASK, scores["avg"])
        if self.progress.best is None or score > self.progress.best:
            self.model.save_to_preset(self.best_dir)
            self.progress.best, self.progress.best_step = score, step


class Checkpoint(StepCallback):
    """Saves what the run needs to resume.

    Args:
        directory: string. Holds the newest checkpoint, which loads as a model too.
        progress: A `Progress`, kept up to date.
        every: int. Steps from one save to the next.
        last_step: int. The run's last step, counted from 1.
    """

    def __init__(self, directory: str, progress: Progress, every: int, last_step: int):
        super().__init__(every, last_step)
        self.directory = directory
        self.progress = progress

    def act(self, step: int, logs: dict[str, Any]) -> None:
        self.progress.step = step
        checkpoint.save(self.directory, self.model, self.progress)


class StepClock(keras.callbacks.Callback):
    """Adds the step's learning rate and examples a second to its logs.

    It stands first, so that the other callbacks' time does not count.

    Args:
        batch_size: int. Examples a step, over all replicas.
        schedule: The learning rate as a function of the steps done before.
    """

    def __init__(
        self,
        batch_size: int,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
    ):
        super().__init__()
        self.batch_size = batch_size
        self.schedule = schedule
        self._started = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        elapsed = time.perf_counter() - self._started
        if logs is not None:
            step = self.model.optimizer.iterations.numpy() - 1
            logs["learning_rate"] = float(self.schedule(step))
            logs["examples_per_second"] = self.batch_size / elapsed


class RunLog(keras.callbacks.Callback):
    """Writes every step's logs to `metrics.jsonl` and TensorBoard.

    It stands after the callbacks that add to the logs. A resumed run's log goes on
    after the checkpoint's step: what was logged beyond it is run again.

    Args:
        directory: string. The run's directory.
        first_step: int. Steps done before.
    """

    def __init__(self, directory: str, first_step: int = 0):
        super().__init__()
        path = Path(directory, "metrics.jsonl")
        _keep_lines(path, first_step)
        self._file = path.open("a", encoding="utf-8")
        self._board = tf.summary.create_file_writer(str(Path(directory, "tensorboard")))

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        with self._board.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _keep_lines(path: Path, count: int) -> None:
    lines = path.read_text("utf-8").splitlines(True) if path.is_file() else []
    with whole_file(path) as temporary:
        temporary.write_text("".join(lines[:count]), "utf-8")
