"""What happens beside the steps: the run's clock, its log, checkpoints."""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import keras
import tensorflow as tf

from simcse_tf.core.atomic import atomic_write, sync
from simcse_tf.core.errors import Diverged, NotFinite, Stopped
from simcse_tf.core.json_files import to_json
from simcse_tf.distributed.collectives import any_worker, every_worker
from simcse_tf.training import checkpoint
from simcse_tf.training.divergence import Guard, check_weights, diverged
from simcse_tf.training.progress import Progress
from simcse_tf.training.run_directory import RunDirectory, writing
from simcse_tf.training.sigterm import stopped

Logs = dict[str, Any] | None


class StepClock(keras.callbacks.Callback):
    """Counts the steps, and logs each one's learning rate and examples a second.

    With loss scaling, also the scale and how many steps it has skipped. It is the
    first callback: the others read the count, and their time is not the step's.

    Args:
        progress: A `Progress`, kept up to date.
        batch_size: int. Examples a step, over all replicas.

    Example:

    ```python
    model.fit(x, callbacks=[StepClock(progress, batch_size=64)])
    ```
    """

    def __init__(self, progress: Progress, batch_size: int):
        super().__init__()
        self.progress = progress
        self.batch_size = batch_size
        self._rate = 0.0
        self._started = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._rate = float(self.model.optimizer.learning_rate)
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        elapsed = time.perf_counter() - self._started
        self.progress.step += 1
        if logs is None:
            return
        logs["learning_rate"] = self._rate
        logs["examples_per_second"] = self.batch_size / elapsed
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            applied = int(optimizer.iterations.numpy())
            logs["loss_scale"] = float(optimizer.dynamic_scale.numpy())
            logs["skipped_steps"] = self.progress.step - applied


class StepCallback(keras.callbacks.Callback, ABC):
    """A callback that acts every few steps, and after the run's last.

    Before it acts it checks the weights, and raises `NotFinite` if they are not finite.

    Args:
        progress: A `Progress`, kept up to date by a `StepClock`.
        every: int. Steps from one action to the next.
        last_step: int. The run's last step, counted from 1.

    Example:

    ```python
    class Beep(StepCallback):
        def act(self, logs):
            print(self.progress.step)
    ```
    """

    def __init__(self, progress: Progress, every: int, last_step: int):
        super().__init__()
        self.progress = progress
        self.every = every
        self.last_step = last_step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.is_due():
            check_weights(self.model)
            self.act({} if logs is None else logs)

    def is_due(self) -> bool:
        """Whether to act after this step."""
        step = self.progress.step
        return step % self.every == 0 or step == self.last_step

    @abstractmethod
    def act(self, logs: dict[str, Any]) -> None:
        """Acts after a step; what it adds to `logs` is logged."""


class RunLog(keras.callbacks.Callback):
    """Writes every step's logs to `metrics.jsonl` and TensorBoard.

    What is not finite, such as the loss of a step that loss scaling skips, is `null` in
    `metrics.jsonl`.

    It comes after the callbacks that add to the logs. A resumed run's log continues
    after the checkpoint's step: later steps in the log are run again.

    Args:
        run: string. The run's directory.
        progress: A `Progress`, kept up to date by a `StepClock`.

    Example:

    ```python
    with closing(RunLog("runs/mine", progress)) as log:
        model.fit(x, callbacks=[StepClock(progress, 64), log])
    ```
    """

    def __init__(self, run: str, progress: Progress):
        super().__init__()
        self.progress = progress
        directory = RunDirectory(run)
        self._path = directory.metrics_file
        with writing(self._path):
            _keep_lines(self._path, progress.step)
            self._file = self._path.open("a", encoding="utf-8")
        self._board_path = directory.tensorboard
        with writing(self._board_path):
            self._board = tf.summary.create_file_writer(str(self._board_path))

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        step = self.progress.step
        values = {name: float(value) for name, value in (logs or {}).items()}
        with writing(self._path):
            self._file.write(to_json({"step": step, **values}) + "\n")
            self._file.flush()
        with writing(self._board_path), self._board.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def close(self) -> None:
        with writing(self._path):
            self._file.close()
        with writing(self._board_path):
            self._board.close()


def _keep_lines(path: Path, last_step: int) -> None:
    lines = path.read_text("utf-8").splitlines(True) if path.is_file() else []
    with atomic_write(path) as temporary:
        kept = [line for line in lines if _logged_step(line) <= last_step]
        temporary.write_text("".join(kept), "utf-8")


def _logged_step(line: str) -> float:
    # A process that is killed while it writes leaves a part of its last line.
    return json.loads(line)["step"] if line.endswith("\n") else math.inf


# What a worker finds after a step; the greatest of them counts for all.
_GOES_ON, _ENDED, _STOP, _DIVERGED = range(4)


class Checkpoint(StepCallback):
    """Saves what the run needs to resume, and stops the run when it must end.

    It is the last callback: what a checkpoint counts as done has been logged. Where the
    progress says that the run has ended early, all workers end it after the same step.

    Args:
        run: Optional string. The run's directory; `None` where another worker
            saves.
        keep: int. How many checkpoints stay.
        must_stop: Function that returns whether this worker's run must end. If it
            is true on one worker, all stop after the same step.
        guard: A `Guard` that comes before. If it found trouble on one worker, nothing
            is saved, and all stop after the same step.
        progress: A `Progress`, kept up to date by a `StepClock`.
        every: int. Steps from one save to the next.
        last_step: int. The run's last step, counted from 1.

    Raises:
        Stopped: Once the run has been saved.
        Diverged: If something is not finite. The last checkpoint stays.

    Example:

    ```python
    with sigterm() as must_stop:
        guard = Guard([LossWatch(progress, 1000)])
        save = Checkpoint("runs/mine", 1, must_stop, guard, progress, 500, 1000)
        model.fit(x, callbacks=[StepClock(progress, 64), guard, save])
    ```
    """

    def __init__(
        self,
        run: str | None,
        keep: int,
        must_stop: Callable[[], bool],
        guard: Guard,
        progress: Progress,
        every: int,
        last_step: int,
    ):
        super().__init__(progress, every, last_step)
        self.run = run
        self.keep = keep
        self.must_stop = must_stop
        self.guard = guard

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        found = self.guard.trouble
        agreed = max(every_worker(_DIVERGED if found else self._found()))
        if agreed == _DIVERGED:
            self._end(diverged(found, self.progress.step, self.run))
        if agreed == _ENDED:
            self.progress.ended = self.model.stop_training = True
        if agreed or self.is_due():
            try:
                check_weights(self.model)
            except NotFinite as error:
                # Every worker has the same weights, and comes here.
                self._end(diverged(error, self.progress.step, self.run))
            self.act({})
        if agreed == _STOP:
            self._end(stopped(self.progress))

    def _found(self) -> int:
        if self.must_stop():
            return _STOP
        # Only the worker that evaluates knows.
        return _ENDED if self.progress.ended else _GOES_ON

    def _end(self, reason: Stopped | Diverged) -> NoReturn:
        # A worker that left before the chief has saved would count as lost.
        any_worker(False)
        raise reason from None

    def act(self, logs: dict[str, Any]) -> None:
        if self.run is None:
            return
        directory = RunDirectory(self.run)
        with writing(directory.checkpoints):
            sync(directory.metrics_file)
            checkpoint.save(self.run, self.model, self.progress, self.keep)
