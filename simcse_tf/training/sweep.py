"""A sweep: one training run for each setting and seed, one after another."""

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import Stopped, UserError
from simcse_tf.core.json_files import read_json, write_json
from simcse_tf.training.config import Config, load_config
from simcse_tf.training.run_directory import SCORES_FILE, RunDirectory

Setting: TypeAlias = dict[str, Any]

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class SweepRun:
    """One training run of a sweep.

    Attributes:
        setting: string. The name of its setting.
        seed: int.
        config: Its config.

    Example:

    ```python
    SweepRun("dropout=0.0", 42, config).directory.best
    ```
    """

    setting: str
    seed: int
    config: Config

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.config.output_dir)

    @property
    def planned_file(self) -> Path:
        """The config that it is to be trained with."""
        return self.directory.path / "planned.json"

    @property
    def log_file(self) -> Path:
        """What `train` prints."""
        return self.directory.path / "train.log"

    @property
    def result_file(self) -> Path:
        """What the sweep's table shows of it; there once it has ended."""
        return self.directory.path / "result.json"


def read_grid(path: str) -> list[Setting]:
    """Reads the settings that a grid file stands for.

    Args:
        path: string. A JSON object of config keys, such as `"model.dropout"`, to
            a value or a list of values: the settings are all their combinations.
            A list of such objects stands for the settings of each in turn; `{}`
            is the base config as it is.

    Returns:
        List of dictionaries from key to value, in the file's order.

    Raises:
        UserError: If the file cannot be read or is of another form, or a setting
            is there twice.

    Example:

    ```python
    read_grid("configs/grids/dropout.json")  # [{"model.dropout": 0.0}, ...]
    ```
    """
    grid = read_json(path)
    objects = grid if isinstance(grid, list) else [grid]
    if not objects or not all(isinstance(each, dict) for each in objects):
        raise UserError(
            f"{path}: expected an object of config keys to lists of values, or a list "
            f"of such objects, received {json.dumps(grid)[:80]}"
        )
    settings = [setting for each in objects for setting in _combinations(each)]
    for index, setting in enumerate(settings):
        if setting in settings[:index]:
            raise UserError(f"{path}: {name_of(setting)} is there twice")
    return settings


def _combinations(grid: dict[str, Any]) -> Iterator[Setting]:
    choices = [v if isinstance(v, list) else [v] for v in grid.values()]
    for values in itertools.product(*choices):
        yield dict(zip(grid, values, strict=True))


def name_of(setting: Setting) -> str:
    """A setting's name in the table: its keys, without their sections, and values.

    Example:

    ```python
    name_of({"model.dropout": 0.1})  # "dropout=0.1"
    ```
    """
    texts = {
        key.rpartition(".")[2]: value if isinstance(value, str) else json.dumps(value)
        for key, value in setting.items()
    }
    return ", ".join(f"{key}={text}" for key, text in texts.items()) or "base"


def plan(
    base: str, settings: Sequence[Setting], seeds: int, overrides: Sequence[str] = ()
) -> list[SweepRun]:
    """The runs of a sweep, each setting's seeds one after another.

    Args:
        base: string. The config that the settings change; its `output_dir` is the
            sweep's, and its seeds are the first ones.
        settings: As `read_grid` returns them.
        seeds: int. How many seeds, counted up from the config's.
        overrides: Strings `section.key=value` over the config.

    Raises:
        UserError: If one of the configs is not valid.

    Example:

    ```python
    plan("configs/unsup.json", read_grid("grid.json"), seeds=3)
    ```
    """
    config = load_config(base, overrides)
    runs = []
    for setting in settings:
        for seed in range(config.training.seed, config.training.seed + seeds):
            changes = _changes(config, setting, seed)
            changed = load_config(base, [*overrides, *changes])
            runs.append(SweepRun(name_of(setting), seed, changed))
    return runs


def _changes(base: Config, setting: Setting, seed: int) -> list[str]:
    name = re.sub(r"[^\w.=-]+", "_", name_of(setting))
    values = {
        **setting,
        "training.seed": seed,
        "data.seed": base.data.seed + seed - base.training.seed,
        "output_dir": str(Path(base.output_dir, name, f"seed-{seed}")),
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def check(runs: Sequence[SweepRun]) -> list[int]:
    """Checks every run's data and directory before the first one begins.

    Args:
        runs: As `plan` returns them.

    Returns:
        Each run's last step.

    Raises:
        UserError: If a run could not begin or be resumed, or has nothing to compare.

    Example:

    ```python
    train_all(runs, check(runs))
    ```
    """
    from simcse_tf.training import run_data, run_directory

    steps: dict[str, int] = {}
    for run in runs:
        if not run.config.data.evaluation:
            raise UserError(
                "data.evaluation: a sweep compares dev scores; expected a SentEval "
                "directory, received null"
            )
        begun = run.directory.has_begun()
        run_directory.check(run.directory.path, run.config, resume=begun)
        if run.setting not in steps:
            steps[run.setting] = run_data.open_data(run.config).last_step
    return [steps[run.setting] for run in runs]


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

    from simcse_tf.training.sigterm import sigterm

    with (
        sigterm() as must_stop,
        tqdm(total=sum(steps), unit="step", desc="sweep") as bar,
    ):
        for run, count in zip(runs, steps, strict=True):
            bar.set_postfix_str(f"{run.setting}, seed {run.seed}")
            begin = bar.n
            if not run.result_file.is_file():
                for done in _train(run, must_stop):
                    bar.update(begin + done - bar.n)
                write_json(run.result_file, _scores(run.directory))
            bar.update(begin + count - bar.n)


def _train(run: SweepRun, must_stop: Callable[[], bool]) -> Iterator[int]:
    """Runs `simcse_tf.train`, or resumes it; yields how many steps are done."""
    run.directory.path.mkdir(parents=True, exist_ok=True)
    with atomic_write(run.planned_file) as path:
        path.write_text(run.config.to_json(), "utf-8")
    command = [sys.executable, "-m", "simcse_tf.train"]
    command += ["--config", str(run.planned_file)]
    if run.directory.has_begun():
        command.append("--resume")
    with run.log_file.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                yield run.directory.steps_logged()
                if must_stop():
                    process.terminate()
                time.sleep(_POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
    if must_stop():
        raise Stopped("stopped by SIGTERM: the same command resumes the sweep")
    if process.returncode:
        lines = run.log_file.read_text("utf-8", "replace").splitlines() or [""]
        raise UserError(
            f"{run.setting}, seed {run.seed}: {lines[-1]} (log: {run.log_file})"
        )


def _scores(run: RunDirectory) -> dict[str, float]:
    """What the table shows of a run: its best model's dev scores and test average."""
    dev = read_json(run.best / SCORES_FILE)
    tasks = ("STSBenchmark", "avg")
    scores = {f"{task} dev": dev[task] for task in tasks if task in dev}
    if test := run.test_scores:
        scores["avg test"] = test["avg"]
    return scores
