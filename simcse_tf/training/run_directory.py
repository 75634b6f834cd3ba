"""A run's directory: its files, and what they hold."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import parse_json, read_json, shown
from simcse_tf.core.outputs import why_not_written
from simcse_tf.core.regular_files import is_there, read_file
from simcse_tf.training.config import Config, load_begun

# In a model's directory: the dev scores of the model, and a checkpoint's state.
SCORES_FILE = "dev.json"
STATE_FILE = "training_state.npz"

# Of a log: ten million steps.
_LOG_BYTES = 2**32
_CHECKPOINT = re.compile(r"step-(\d{8,})")


class RunDirectory:
    """Where a run's files are, and what they hold.

    Args:
        path: The directory. Need not be there.

    Example:

    ```python
    run = RunDirectory("runs/mine")
    run.config.model.pooling, run.dev_scores["avg"], run.metrics()[-1]["loss"]
    SimCSE.from_preset(str(run.best))
    ```
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        """The run's config; there from the run's beginning on."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """The log, a JSON object a line and a line a step."""
        return self.path / "metrics.jsonl"

    @property
    def test_file(self) -> Path:
        """The best model's test scores; there once the run has ended."""
        return self.path / "test.json"

    @property
    def tensorboard(self) -> Path:
        """The directory of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def best(self) -> Path:
        """The model with the best dev score so far."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """A link to the newest checkpoint."""
        return self.path / "last"

    @property
    def checkpoints(self) -> Path:
        """The directory of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The directory of one checkpoint."""
        return self.checkpoints / f"step-{step:08d}"

    @property
    def saved(self) -> list[Path]:
        """The directories of the checkpoints that are there, the oldest first."""
        there = filter(Path.is_dir, self.checkpoints.glob("step-*"))
        return sorted(filter(_step_of, there), key=_step_of)

    @property
    def newest(self) -> Path | None:
        """The checkpoint to resume from; `None` before the first one.

        That is `last`, and without it (a copy may lack links) the newest one.
        """
        if os.path.lexists(self.last):
            return self.last
        return next(reversed(self.saved), None)

    @property
    def lock_file(self) -> Path:
        """What a process that writes the run holds the lock of."""
        return self.path / ".lock"

    @property
    def config(self) -> Config:
        """The run's config.

        Raises:
            UserError: If it cannot be read or is not valid.
        """
        return load_begun(str(self.config_file))

    @property
    def dev_scores(self) -> dict[str, float] | None:
        """The dev scores of the best model and the `"step"` it is from, if it has any.

        They stand beside the model and not in the checkpoint, because after a kill
        the model may be of a later step.

        Raises:
            UserError: If they cannot be read.
        """
        return scores_of(self.best)

    @property
    def test_scores(self) -> dict[str, float] | None:
        """The test scores of the best model, if the run has ended and tested it.

        Raises:
            UserError: If they cannot be read.
        """
        return _scores(self.test_file, "avg")

    @property
    def written(self) -> list[Path]:
        """What is there of that which a run writes beside its config."""
        paths = (
            self.metrics_file,
            self.best,
            self.last,
            self.checkpoints,
            self.test_file,
        )
        return [path for path in paths if os.path.lexists(path)]

    def has_begun(self) -> bool:
        """Whether a run has begun here."""
        return self.config_file.exists()

    def is_run(self) -> bool:
        """Whether there is a run's directory, as opposed to a model's."""
        # A run has one of them from its first evaluation or checkpoint on, a model's
        # directory has none.
        files = (self.best, self.last, self.metrics_file)
        return any(file.exists() for file in files)

    def metrics(self) -> list[dict[str, float]]:
        """The rows of the log, one a step; empty where there is no log.

        Raises:
            UserError: If the log cannot be read or a line is malformed.
        """
        path = self.metrics_file
        content = read_file(path, _LOG_BYTES) if is_there(path) else b""
        # A run that is writing, or was killed, leaves a part of its last line.
        lines = content.split(b"\n")[:-1]
        return [_logged(line, path, step) for step, line in enumerate(lines, start=1)]

    def steps_logged(self) -> int:
        """How many steps are in the log."""
        path = self.metrics_file
        return path.read_bytes().count(b"\n") if path.is_file() else 0


def scores_of(model: Path) -> dict[str, float] | None:
    """The dev scores in a model's directory, if it has any.

    Raises:
        UserError: If they cannot be read.

    Example:

    ```python
    scores_of(Path("runs/mine/best"))  # {"step": 250, "STSBenchmark": 82.1, ...}
    ```
    """
    # A model without a score that counts has a step alone.
    return _scores(model / SCORES_FILE, "step")


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Reports a full disk, or a directory that cannot be written, in one line.

    Args:
        path: What the block writes.

    Raises:
        UserError: If the block fails to write it.

    Example:

    ```python
    with writing("runs/mine/notes.txt"):
        Path("runs/mine/notes.txt").write_text("seed 42")
    ```
    """
    try:
        yield
    except Exception as error:
        if (reason := why_not_written(error)) is None:
            raise
        raise UserError(
            f"cannot write {path}: {reason}; what was saved before is whole, and "
            "--resume continues from it"
        ) from None


def _step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's directory is named after; 0 for another name."""
    named = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(named[1]) if named else 0


def _scores(path: Path, needed: str) -> dict[str, float] | None:
    """The scores in a file, if it is there."""
    if not is_there(path):
        return None
    found = read_json(path)
    scores = numbers_in(found)
    if scores is None or needed not in scores:
        raise UserError(
            f'{path} is damaged: expected numbers by name, "{needed}" among them, '
            f"received {shown(found)}"
        )
    return scores


def _logged(line: bytes, path: Path, step: int) -> dict[str, float]:
    # Every step has a line, so the line's number is its step.
    place = f"{path}, line {step}"
    found = parse_json(line, place)
    row = numbers_in(found)
    if row is None or row.get("step") != step:
        raise UserError(
            f'{place}: expected numbers by name, with "step": {step}, received '
            f"{shown(found)}"
        )
    return row


def numbers_in(values: Any) -> dict[str, float] | None:
    """A JSON object of numbers, where NaN is null; `None` if it is anything else.

    Example:

    ```python
    numbers_in({"avg": 81.6, "SICK": None})  # {"avg": 81.6, "SICK": nan}
    ```
    """
    if not isinstance(values, dict):
        return None
    numbers = {k: math.nan if v is None else v for k, v in values.items()}
    whole = all(isinstance(value, (int, float)) for value in numbers.values())
    return numbers if whole else None
