"""What a run saves: all that decides its next steps, and its best model."""

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simcse_tf.core.atomic import (
    atomic_directory,
    atomic_write,
    check_room,
    remove_directory,
)
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.model.preset_io import write_preset
from simcse_tf.training.run_directory import SCORES_FILE, STATE_FILE, RunDirectory

# A model's vocabulary, configs and HDF5's own bytes, beside its weights.
OVERHEAD = 2**20


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: int. Batches seen. A step that loss scaling skips counts too.
        examples: int. How many examples the training data holds.
    """

    step: int = 0
    examples: int = 0


def save(run: str, model: Any, progress: Progress, keep: int = 1) -> None:
    """Writes `checkpoints/step-...`, which loads as a model and resumes as a run.

    The link `last` points to it once it is whole; older ones are removed after that.

    Args:
        run: string. The run's directory.
        model: A compiled `simcse_tf.SimCSE`.
        progress: A `Progress`.
        keep: int. How many checkpoints stay. Defaults to `1`.

    Raises:
        OSError: If it cannot be written; `last` is then what it was.

    Example:

    ```python
    save("runs/mine", model, Progress(step=500, examples=10_000))
    ```
    """
    directory = RunDirectory(run)
    newest = directory.checkpoint(progress.step)
    arrays = {name: variable.numpy() for name, variable in _variables(model)}
    with atomic_directory(newest) as path:
        _write_model(model, path, sum(array.nbytes for array in arrays.values()))
        np.savez(path / STATE_FILE, progress=json.dumps(asdict(progress)), **arrays)
    with atomic_write(directory.last) as link:
        link.symlink_to(newest.relative_to(directory.path))
    _prune(newest, keep)


def load_progress(run: str) -> Progress | None:
    """Reads how far a run's last checkpoint had come; `None` if there is none yet.

    Raises:
        UserError: If the checkpoint cannot be read.

    Example:

    ```python
    load_progress("runs/mine").step  # 500
    ```
    """
    if not RunDirectory(run).last.is_symlink():
        return None
    with _open_state(run) as saved:
        return Progress(**json.loads(str(saved["progress"])))


def restore(run: str, model: Any) -> None:
    """Restores a model, its optimizer and its random states from the last checkpoint.

    Args:
        run: string. The directory of a run that has a checkpoint.
        model: A `simcse_tf.SimCSE` built and compiled from the same config.

    Raises:
        UserError: If the checkpoint cannot be read, is another model's or is not
            finite.

    Example:

    ```python
    restore("runs/mine", model)
    ```
    """
    with _open_state(run) as saved:
        variables = dict(_variables(model))
        arrays = {name: saved[name] for name in saved.files if name != "progress"}
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {name: tuple(v.shape) for name, v in variables.items()}:
        raise UserError(f"--resume: {run}/last is the checkpoint of another model")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"--resume: {run}/last holds NaN or infinity ({name}), from where no "
                "step can learn: begin a new run"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def save_best(run: str, model: Any, scores: dict[str, float] | None = None) -> None:
    """Writes the model to `best`, and its scores beside it.

    Args:
        run: string. The run's directory.
        model: A `simcse_tf.SimCSE`.
        scores: Optional dictionary of dev scores, and of the `"step"` it comes from.

    Raises:
        OSError: If it cannot be written; the older one is then still there.

    Example:

    ```python
    save_best("runs/mine", model, {"step": 250, "avg": 80.2})
    ```
    """
    with atomic_directory(RunDirectory(run).best) as path:
        _write_model(model, path)
        if scores:
            write_json(path / SCORES_FILE, scores)


def _write_model(model: Any, directory: Path, beside: int = 0) -> None:
    # HDF5 has been seen to crash the process when the disk fills up.
    weights = sum(variable.numpy().nbytes for variable in model.weights)
    check_room(directory, weights + beside + OVERHEAD)
    write_preset(model, directory)


def _open_state(run: str) -> Any:
    path = RunDirectory(run).last / STATE_FILE
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"--resume: cannot read {path}: {error}") from None


def _prune(newest: Path, keep: int) -> None:
    """Leaves the `keep` checkpoints up to the newest.

    Later ones hold steps that a resumed run runs again.
    """
    there = sorted(newest.parent.glob("step-*"))
    kept = [path for path in there if path <= newest][-keep:]
    for path in there:
        if path not in kept:
            remove_directory(path)


def _variables(model: Any) -> list[tuple[str, keras.Variable]]:
    # A metric decides no step, and every replica has its own.
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    parts = {"model": own, "optimizer": model.optimizer.variables}
    return [
        (f"{part}/{index}/{variable.name}", variable)
        for part, variables in parts.items()
        for index, variable in enumerate(variables)
    ]
