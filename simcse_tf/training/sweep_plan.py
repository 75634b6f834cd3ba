"""A sweep's plan: its settings, read from a grid, and a run for each and each seed."""

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shown
from simcse_tf.core.regular_files import is_there
from simcse_tf.training.config import Config, as_begun, load_config
from simcse_tf.training.run_directory import RunDirectory

Setting: TypeAlias = dict[str, Any]

# What a sweep sets itself, for each of its runs.
_OWN_KEYS = ("training.seed", "data.seed", "output_dir")
# Each run is a process, of a minute or of days.
_MOST_RUNS = 1_000
# Of a directory's name, which may have 255.
_NAME_BYTES = 200


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

    def is_finished(self) -> bool:
        """Whether it has ended."""
        return is_there(self.result_file)


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
        UserError: If the file cannot be read or is of another form, a setting is
            there twice, or one changes what the sweep sets itself.

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
            f"of such objects, received {shown(grid)}"
        )
    choices = [_choices(each, path) for each in objects]
    if sum(math.prod(map(len, each.values())) for each in choices) > _MOST_RUNS:
        raise UserError(f"{path}: expected at most {_MOST_RUNS} settings")
    settings = [setting for each in choices for setting in _combinations(each)]
    for index, setting in enumerate(settings):
        if setting in settings[:index]:
            raise UserError(f"{path}: {_name(setting)} is there twice")
    return settings


def _choices(grid: dict[str, Any], path: str) -> dict[str, list[Any]]:
    """The values of each key; one that is no list stands for a list of one."""
    choices = {key: v if isinstance(v, list) else [v] for key, v in grid.items()}
    for key, values in choices.items():
        if key in _OWN_KEYS:
            raise UserError(
                f"{path}: {key} is not for a grid: every setting gets the seeds of "
                "--seeds, and a directory of its own"
            )
        if "." not in key:
            raise UserError(
                f"{path}: expected keys such as model.dropout, received {shown(key)}"
            )
        if not values:
            raise UserError(f"{path}: {key}: expected one value or more, received []")
    return choices


def _combinations(choices: dict[str, list[Any]]) -> Iterator[Setting]:
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def names_of(settings: Sequence[Setting]) -> list[str]:
    """The settings' names in the table, each another one.

    A name holds keys, without their sections where that is clear, and values.

    Example:

    ```python
    names_of([{}, {"model.dropout": 0.1}])  # ["base", "dropout=0.1"]
    ```
    """
    short = [_name(setting) for setting in settings]
    times = Counter(short)
    return [
        name if times[name] == 1 else json.dumps(setting)[1:-1]
        for name, setting in zip(short, settings, strict=True)
    ]


def _name(setting: Setting) -> str:
    texts = {
        key.rpartition(".")[2]: value if isinstance(value, str) else json.dumps(value)
        for key, value in setting.items()
    }
    return ", ".join(f"{key}={text}" for key, text in texts.items()) or "base"


def _directories_of(names: Sequence[str]) -> list[str]:
    """The directories' names of the settings' names, each another one."""
    plain = [re.sub(r"[^\w.=-]+", "_", name) for name in names]
    times = Counter(plain)
    return [
        directory
        if times[directory] == 1 and len(directory.encode()) <= _NAME_BYTES
        else f"{directory[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        for name, directory in zip(names, plain, strict=True)
    ]


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
    if len(settings) * seeds > _MOST_RUNS:
        raise UserError(
            f"--seeds: expected at most {_MOST_RUNS} runs, received {seeds} seeds of "
            f"{len(settings)} settings"
        )
    config = load_config(base, overrides)
    names = names_of(settings)
    runs = []
    for setting, name, directory in zip(
        settings, names, _directories_of(names), strict=True
    ):
        for seed in range(config.training.seed, config.training.seed + seeds):
            changes = _changes(config, setting, directory, seed)
            changed = load_config(base, [*overrides, *changes])
            run = SweepRun(name, seed, changed)
            if run.directory.has_begun():
                changed = as_begun(changed, run.directory.config)
                run = replace(run, config=changed)
            runs.append(run)
    return runs


def _changes(base: Config, setting: Setting, directory: str, seed: int) -> list[str]:
    values = {
        **setting,
        "training.seed": seed,
        "data.seed": base.data.seed + seed - base.training.seed,
        "output_dir": str(Path(base.output_dir, directory, f"seed-{seed}")),
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
