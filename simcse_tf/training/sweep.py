"""A sweep: one training run for each setting and seed, one after another."""

import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.cli import STOPPED
from simcse_tf.core.errors import Stopped, UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.core.locks import locked
from simcse_tf.training import run_data, run_start
from simcse_tf.training.dev_data import AVERAGE, BENCHMARK
from simcse_tf.training.progress import load_progress
from simcse_tf.training.run_directory import (
    RunDirectory,
    scores_of,
    writing,
)
from simcse_tf.training.sigterm import signal_received, sigterm
from simcse_tf.training.sweep_plan import SweepRun

_POLL_SECONDS = 0.5

# A run of a sweep may differ from what was begun in these keys only: the others decide
# its scores, and the sweep compares those of one plan.
_CHANGEABLE_KEYS = (
    "output_dir",
    "training.strategy",
    "training.tpu",
    "training.micro_batch_size",
    "training.checkpoint_every",
    "training.keep",
    "evaluation.geometry_every",
)

# Of Linux' prctl(2).
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Keeps other sweeps and runs out of a sweep's directory.

    Args:
        directory: The directory. Is made if missing; it goes again if nothing is
            written.

    Raises:
        UserError: If it cannot be written, or another process does.

    Example:

    ```python
    with claimed(Path("runs/table-1")):
        train_all(runs, check(runs))
    ```
    """
    run_start.check_place(directory)
    busy = (
        f"output_dir {directory}: another sweep or run writes there: wait for its end, "
        "or choose another directory"
    )
    with locked(RunDirectory(directory).lock_file, busy):
        yield


def check(runs: Sequence[SweepRun]) -> list[int]:
    """Checks every run's data and directory before the first one begins.

    Args:
        runs: As `plan` returns them.

    Returns:
        Each run's last step.

    Raises:
        UserError: If a run could not begin or be resumed, has begun with another
            config or other data, or has nothing to compare.

    Example:

    ```python
    train_all(runs, check(runs))
    ```
    """
    steps, setting = [], None
    for run in runs:
        path, config = run.directory.path, run.config
        if not config.data.evaluation:
            raise UserError(
                "data.evaluation: a sweep compares dev scores; expected evaluation "
                "data, received null"
            )
        begun = run.directory.has_begun()
        if not run.is_finished():
            run_start.check_place(path)
            run_start.check(path, config, resume=begun)
        if begun or run.is_finished():
            _check_plan(run)
        if run.setting != setting:
            setting, data = run.setting, run_data.open_data(config)
        if begun and (progress := load_progress(str(path))):
            run_data.check_same_data(config, data, progress)
        steps.append(data.last_step)
    return steps


def _check_plan(run: SweepRun) -> None:
    changed = run_start.changed_keys(run.directory.config, run.config, _CHANGEABLE_KEYS)
    if changed:
        raise UserError(
            f"{run.directory.path}: {changed}: that is another sweep: choose another "
            "output_dir"
        )


def train_all(runs: Sequence[SweepRun], steps: Sequence[int]) -> None:
    """Trains what is not finished, one run at a time, each in a process of its own.

    Args:
        runs: As `plan` returns them.
        steps: As `check` returns them.

    Raises:
        UserError: If a run fails; its log holds the reason.
        Stopped: If SIGTERM came; the run that was under way has been saved.

    Example:

    ```python
    train_all(runs, check(runs))
    ```
    """
    from tqdm import tqdm

    with (
        sigterm() as must_stop,
        tqdm(total=sum(steps), unit="step", desc="sweep") as bar,
    ):
        for run, count in zip(runs, steps, strict=True):
            bar.set_postfix_str(f"{run.setting}, seed {run.seed}")
            begin = bar.n
            if not run.is_finished():
                for done in _train(run, must_stop):
                    bar.update(begin + done - bar.n)
                with writing(run.result_file):
                    write_json(run.result_file, _scores(run.directory))
            bar.update(begin + count - bar.n)


def _train(run: SweepRun, must_stop: Callable[[], bool]) -> Iterator[int]:
    """Runs `simcse_tf.train`, or resumes it; yields how many steps are done."""
    with writing(run.planned_file), atomic_write(run.planned_file) as path:
        path.write_text(run.config.to_json(), "utf-8")
    command = [sys.executable, "-m", "simcse_tf.train"]
    command += ["--config", str(run.planned_file)]
    if run.directory.has_begun():
        command.append("--resume")
    with writing(run.log_file), run.log_file.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            preexec_fn=functools.partial(_end_with, os.getpid()),
        )
        try:
            while process.poll() is None:
                yield run.directory.steps_logged()
                if must_stop():
                    process.terminate()
                time.sleep(_POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
    if must_stop() or process.returncode == STOPPED:
        raise Stopped(
            f"stopped by {signal_received()}: the same command resumes the sweep"
        )
    if process.returncode:
        raise UserError(
            f"{run.setting}, seed {run.seed}: {_reason(run, process.returncode)} "
            f"(log: {run.log_file})"
        )


def _end_with(parent: int) -> None:
    """Makes this process receive SIGTERM when its parent ends, killed or not.

    The kernel sees to it, so there is nothing to watch and no thread to watch it. The
    run saves its state, and holds its directory's lock until then.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have ended before.
    if os.getppid() != parent:
        os._exit(STOPPED)


def _reason(run: SweepRun, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    with run.log_file.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        lines = log.read().decode("utf-8", "replace").split("\n")
    # A progress bar overwrites its line.
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return last.rpartition("\r")[2]


def _scores(run: RunDirectory) -> dict[str, float]:
    """What the table shows of a run: its best model's dev scores and test average."""
    dev = scores_of(run.best) or {}
    tasks = (run.config.evaluation.select or BENCHMARK, AVERAGE)
    scores = {f"{task} dev": dev[task] for task in tasks if task in dev}
    if test := run.test_scores:
        scores["avg test"] = test["avg"]
    return scores
