"""What a run's directory says: its config, its log, its best model's scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.training.config import Config, load_config

# Of these, one is in a run's directory from its first checkpoint or evaluation on,
# and none in a model's.
_RUN_FILES = ("best", "last", "metrics.jsonl")


@dataclass(frozen=True)
class Run:
    """A run of `simcse_tf.train`.

    Attributes:
        path: Its directory.
        config: Its config.
        rows: The lines of `metrics.jsonl`; empty where there is none.
        dev: The best model's dev scores and `"step"`; empty where it has none.
        examples: How many examples its data hold, where a checkpoint says so.
    """

    path: Path
    config: Config
    rows: list[dict[str, float]]
    dev: dict[str, float]
    examples: int | None = None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def model(self) -> Path:
        return self.path / "best"

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
    """A key of the config; `None` where there is no default or nothing compared."""

    key: str
    value: str
    default: str | None
    compared: str | None

    @property
    def is_changed(self) -> bool:
        """Whether the value differs from the default or from what is compared."""
        others = {self.default, self.compared} - {None}
        return bool(others - {self.value})


def is_run(path: str | Path) -> bool:
    """Whether there is a run's directory, as opposed to a model's."""
    return any(Path(path, name).exists() for name in _RUN_FILES)


def read_run(path: str | Path) -> Run:
    """Reads all of a run's directory but the model.

    Raises:
        UserError: It is no run's directory, holds no best model yet, or its config
            or log cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no run {path}: expected a directory that train wrote")
    if not is_run(path) or not (path / "config.json").is_file():
        raise UserError(
            f"{path} holds no run: expected config.json and best/ in it, as train "
            "writes them"
        )
    config = load_config(str(path / "config.json"))
    if not (path / "best").is_dir():
        raise UserError(
            f"the run {path} has no best/ yet: let it go on until its first "
            "evaluation (train --resume)"
        )
    scores = path / "best" / "dev.json"
    return Run(
        path,
        config,
        _read_log(path / "metrics.jsonl"),
        _read_json(scores) if scores.is_file() else {},
    )


def config_rows(run: Run, compared: Run | None) -> list[ConfigRow]:
    """Every key of a run's config beside its default and another run's value."""
    values = _flat(run.config.model_dump())
    defaults = _defaults(run.config)
    others = _flat(compared.config.model_dump()) if compared else {}
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


def _read_log(path: Path) -> list[dict[str, float]]:
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    rows = []
    # A run that is writing, or was killed, leaves a part of its last line.
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        row = _parsed(line, f"{path}, line {number}")
        if not isinstance(row.get("step"), int):
            raise UserError(f"{path}, line {number}: expected a step, received {line}")
        rows.append(row)
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise UserError(f"{place}: expected a JSON object, received {text.strip()}")
    return value


def _defaults(config: Config) -> dict[str, Any]:
    """The default of every key that has one."""
    required = Config.model_validate(
        {
            "model": {"preset": config.model.preset},
            "data": {"train": config.data.train},
            "output_dir": config.output_dir,
        }
    )
    flat = _flat(required.model_dump())
    given = _flat(required.model_dump(exclude_unset=True))
    return {key: value for key, value in flat.items() if key not in given}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
