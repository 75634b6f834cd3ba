"""What happens beside the steps: STS evaluation, the run's log, checkpoints."""

import json
import math
import sys
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
from simcse_tf.training.checkpoint import Progress
from simcse_tf.training.divergence import Guard, check_weights, diverged
from simcse_tf.training.run_directory import RunDirectory, writing
from simcse_tf.training.sigterm import stopped

Scores = dict[str, float]
Logs = dict[str, Any] | None

# The paper selects checkpoints by STS-B; without it the mean decides.
SELECTION_TASK = "STSBenchmark"
UNDEFINED = (
    "the dev score is undefined, because the model finds all pairs equally similar: it "
    "counts as the worst"
)


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


class STSEvaluation(StepCallback):
    """Evaluates the model while it trains, and saves it whenever it is the best.

    The scores join the step's logs as `dev_...`, for the callbacks after this one. One
    that is undefined, NaN, counts as the worst: its model is the best only as long as
    there is no other.

    Args:
        evaluate: Function of the model that returns its scores by task and their
            mean as `"avg"`.
        run: string. The run's directory, where the best model is saved.
        progress: A `Progress`, kept up to date by a `StepClock`.
        every: int. Steps from one evaluation to the next.
        last_step: int. The run's last step, counted from 1.

    Example:

    ```python
    STSEvaluation(evaluate, "runs/mine", progress, every=125, last_step=1000)
    ```
    """

    def __init__(
        self,
        evaluate: Callable[[keras.Model], Scores],
        run: str,
        progress: Progress,
        every: int,
        last_step: int,
    ):
        super().__init__(progress, every, last_step)
        self.evaluate = evaluate
        self.run = run

    def act(self, logs: dict[str, Any]) -> None:
        scores = self.evaluate(self.model)
        logs.update({f"dev_{task}": score for task, score in scores.items()})
        step, selected = self.progress.step, selection_score(scores)
        if selected == -math.inf:
            print(f"step {step}: {UNDEFINED}", file=sys.stderr)
        directory = RunDirectory(self.run)
        best = directory.dev_scores
        if best is None or selected > selection_score(best):
            defined = {k: score for k, score in scores.items() if math.isfinite(score)}
            with writing(directory.best):
                checkpoint.save_best(self.run, self.model, {"step": step, **defined})


class GeometryEvaluation(StepCallback):
    """Adds alignment and uniformity to the logs; the first time after step 1.

    Args:
        evaluate: Function of the model that returns both.
        progress: A `Progress`, kept up to date by a `StepClock`.
        every: int. Steps from one evaluation to the next.
        last_step: int. The run's last step, counted from 1.

    Example:

    ```python
    GeometryEvaluation(evaluate, progress, every=125, last_step=1000)
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), figure 2
    """

    def __init__(
        self,
        evaluate: Callable[[keras.Model], Scores],
        progress: Progress,
        every: int,
        last_step: int,
    ):
        super().__init__(progress, every, last_step)
        self.evaluate = evaluate

    def is_due(self) -> bool:
        # The trajectory's first point is near the weights that training started from.
        return self.progress.step == 1 or super().is_due()

    def act(self, logs: dict[str, Any]) -> None:
        logs.update(self.evaluate(self.model))


def selection_score(scores: Scores) -> float:
    """What decides which model is the best; below all others where it is undefined.

    Args:
        scores: Dev scores by task and their mean as `"avg"`. One that is undefined is
            NaN or not there.

    Example:

    ```python
    selection_score({"STSBenchmark": 82.1, "avg": 79.0})  # 82.1
    ```
    """
    score = scores.get(SELECTION_TASK, scores.get("avg", math.nan))
    return score if math.isfinite(score) else -math.inf


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
_STOP, _DIVERGED = 1, 2


class Checkpoint(StepCallback):
    """Saves what the run needs to resume, and stops the run when it must end.

    It is the last callback: what a checkpoint counts as done has been logged.

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
        agreed = max(every_worker(_DIVERGED if found else int(self.must_stop())))
        if agreed == _DIVERGED:
            self._end(diverged(found, self.progress.step, self.run))
        if agreed == _STOP or self.is_due():
            try:
                check_weights(self.model)
            except NotFinite as error:
                # Every worker has the same weights, and comes here.
                self._end(diverged(error, self.progress.step, self.run))
            self.act({})
        if agreed == _STOP:
            self._end(stopped(self.progress))

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
