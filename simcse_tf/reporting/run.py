"""A run as the report shows it: config, log, speed, the best model's scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.training.config import Config
from simcse_tf.training.dev_data import default_selection
from simcse_tf.training.run_directory import RunDirectory


@dataclass(frozen=True)
class ReportedRun:
    """A run of `simcse_tf.train` as the page shows it.

    Attributes:
        path: Its directory.
        config: Its config.
        rows: The lines of its log; empty where there is none.
        dev: The best model's dev scores and `"step"`; empty where it has none.
        examples: How many examples its data hold, where a checkpoint has the number.
        ended: Whether it ended early.

    Example:

    ```python
    read_run("runs/mine").rate  # examples a second
    ```
    """

    path: Path
    config: Config
    rows: list[dict[str, float]]
    dev: dict[str, float]
    examples: int | None = None
    ended: bool = False

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def model(self) -> Path:
        return RunDirectory(self.path).best

    @property
    def selection(self) -> str:
        """The name of the dev score that chose the best model."""
        return self.config.evaluation.select or default_selection(self.dev)

    @property
    def steps(self) -> int:
        """Steps logged so far."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def last_step(self) -> int | None:
        """The step at which the run ends, where that is known."""
        training = self.config.training
        if training.max_steps or not self.examples:
            return training.max_steps
        return self.examples // training.batch_size * training.epochs

    @property
    def rate(self) -> float | None:
        """The median step's examples a second."""
        rates = _rates(self.rows)
        return median(rates) if rates else None

    @property
    def seconds(self) -> float:
        """The time of all steps, without evaluations and checkpoints."""
        batch_size = self.config.training.batch_size
        return sum(batch_size / rate for rate in _rates(self.rows))


class ConfigRow(NamedTuple):
    """A key of the config; `None` where there is no default or nothing compared.

    Example:

    ```python
    ConfigRow("model.dropout", "0.0", default="0.1", compared=None).is_changed
    ```
    """

    key: str
    value: str
    default: str | None
    compared: str | None

    @property
    def is_changed(self) -> bool:
        """Whether the value differs from the default or from what is compared."""
        others = {self.default, self.compared} - {None}
        return bool(others - {self.value})


def read_run(path: str | Path) -> ReportedRun:
    """Reads all of a run's directory but the model.

    Args:
        path: The directory.

    Raises:
        UserError: It is no run's directory, holds no best model yet, or its config
            or log cannot be read.

    Example:

    ```python
    read_run("runs/mine").dev["avg"]
    ```
    """
    run = RunDirectory(path)
    if not run.path.is_dir():
        raise UserError(f"no run {path}: expected a directory that train wrote")
    if not run.is_run() or not run.config_file.is_file():
        raise UserError(
            f"{path} holds no run: expected {run.config_file.name} and "
            f"{run.best.name}/ in it, as train writes them"
        )
    config = run.config
    if not run.best.is_dir():
        raise UserError(
            f"the run {path} has no {run.best.name}/ yet: let it run until its first "
            "evaluation (train --resume)"
        )
    return ReportedRun(run.path, config, run.metrics(), run.dev_scores or {})


def config_rows(run: ReportedRun, compared: ReportedRun | None) -> list[ConfigRow]:
    """Every key of a run's config, with its default and another run's value.

    Args:
        run: The reported run.
        compared: The compared run, if there is one.

    Example:

    ```python
    [row.key for row in config_rows(run, None) if row.is_changed]
    ```
    """
    values = run.config.flat()
    defaults = _defaults(run.config)
    others = compared.config.flat() if compared else {}
    return [
        ConfigRow(
            key,
            json.dumps(value),
            json.dumps(defaults[key]) if key in defaults else None,
            json.dumps(others[key]) if key in others else None,
        )
        for key, value in values.items()
    ]


def _rates(rows: Sequence[Mapping[str, float]]) -> list[float]:
    rates = (row.get("examples_per_second", 0) for row in rows)
    return [rate for rate in rates if rate > 0]


def _defaults(config: Config) -> dict[str, Any]:
    """The default of every key that has one."""
    required = Config.model_validate(
        {
            "model": {"preset": config.model.preset},
            "data": {"train": config.data.train},
            "output_dir": config.output_dir,
        }
    )
    given = required.flat(exclude_unset=True)
    return {key: value for key, value in required.flat().items() if key not in given}
