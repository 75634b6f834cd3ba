"""A run's directory: its files, and whether a run may begin there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simcse_tf.core.atomic import atomic_write, clean_up
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import parse_json, read_json, shown
from simcse_tf.training.config import Config, load_config

# A resumed run may differ from what was begun in these keys only: paths may move,
# a run may become longer, and the others change no step but for its rounding (the
# number of replicas, its dropout masks too).
RESUMABLE_KEYS = (
    "output_dir",
    "data.train",
    "data.evaluation",
    "model.preset",
    "training.epochs",
    "training.max_steps",
    "training.strategy",
    "training.tpu",
    "training.micro_batch_size",
    "training.evaluate_every",
    "training.checkpoint_every",
    "training.keep",
    "evaluation.geometry_every",
    "evaluation.test",
)


# In a model's directory: the dev scores of the model, and a checkpoint's state.
SCORES_FILE = "dev.json"
STATE_FILE = "training_state.npz"


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
    def config(self) -> Config:
        """The run's config.

        Raises:
            UserError: If it cannot be read or is not valid.
        """
        return load_config(str(self.config_file))

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
        return read_json(self.test_file) if self.test_file.is_file() else None

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
        try:
            text = path.read_text("utf-8") if path.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from None
        # A run that is writing, or was killed, leaves a part of its last line.
        lines = text.split("\n")[:-1]
        return [
            _logged(line, f"{path}, line {number}")
            for number, line in enumerate(lines, start=1)
        ]

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
    path = model / SCORES_FILE
    return read_json(path) if path.is_file() else None


def check(output: Path, config: Config, resume: bool) -> None:
    """Checks that a run can begin, or be resumed, in a directory.

    Args:
        output: The directory. Need not be there.
        config: The run's config.
        resume: bool. Whether the run is to be resumed.

    Raises:
        UserError: If the directory cannot be written, holds a run that would be
            overwritten, or none to resume, or one of another config.

    Example:

    ```python
    check(Path("runs/mine"), load_config("configs/sup.json"), resume=False)
    ```
    """
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"output_dir {output}: {there} is not a writable directory")
    run = RunDirectory(output)
    if resume and not run.has_begun():
        raise UserError(f"--resume: output_dir {output} holds no run to resume")
    if resume:
        _check_same(run.config, config)
    elif run.has_begun() or run.best.exists() or run.last.exists():
        raise UserError(
            f"output_dir {output} holds a run already: pass --resume to resume it, "
            "or choose another directory"
        )


def begin(output: Path, config: Config) -> None:
    """Writes the config, and removes what a killed run left half written.

    Args:
        output: The directory. Is made if missing.
        config: The run's config.

    Raises:
        UserError: If the directory cannot be written.

    Example:

    ```python
    begin(Path("runs/mine"), load_config("configs/sup.json"))
    ```
    """
    run = RunDirectory(output)
    with writing(output):
        clean_up(run.path)
        clean_up(run.checkpoints)
        with atomic_write(run.config_file) as path:
            path.write_text(config.to_json(), "utf-8")


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
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"cannot write {path}: {_reason(error)}; what was saved before is whole, "
            "and --resume continues from it"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # TensorFlow's message is "{{operation}} file; reason", then what it tried to do.
    return str(error).splitlines()[0].rpartition("; ")[2]


def _check_same(begun: Config, now: Config) -> None:
    before, after = begun.flat(), now.flat()
    changed = [
        f"{key} was {before[key]!r} and is {after[key]!r}"
        for key in after
        if before[key] != after[key] and key not in RESUMABLE_KEYS
    ]
    if changed:
        raise UserError(
            f"--resume: {', '.join(changed)}: that is another run; what may change "
            f"is {', '.join(RESUMABLE_KEYS)}"
        )


def _logged(line: str, place: str) -> dict[str, Any]:
    row = parse_json(line, place)
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected a JSON object, received {shown(row)}")
    if not isinstance(row.get("step"), int):
        raise UserError(f"{place}: expected a step, received {shown(row)}")
    return row
