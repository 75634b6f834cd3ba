"""What a run saves: all that decides its next steps, and its best model."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simcse_tf.checkpoints.load import load_tokenizer
from simcse_tf.core.atomic import atomic_directory, check_room, remove_directory
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.encoders.families import tokenizer_config
from simcse_tf.model.preset_io import write_preset
from simcse_tf.tokenizers.base import Tokenizer
from simcse_tf.training.progress import Progress, link_last, load_state, save_state
from simcse_tf.training.run_directory import SCORES_FILE, RunDirectory

# A model's vocabulary, configs and HDF5's own bytes, beside its weights.
OVERHEAD = 2**20


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
        save_state(path, progress, arrays)
    link_last(directory, newest)
    _prune(directory, newest, keep)


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
    arrays, variables = load_state(run), dict(_variables(model))
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {name: tuple(v.shape) for name, v in variables.items()}:
        raise UserError(f"--resume: {run}/last is the checkpoint of another model")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"--resume: {run}/last holds NaN or infinity ({name}), from where no "
                "step can learn: begin a new run"
            )
    # Another vocabulary of the same size would give the weights other tokens.
    saved = load_tokenizer(str(RunDirectory(run).newest))
    if _as_json(saved) != _as_json(model.tokenizer):
        raise UserError(
            f"--resume: model.preset has another tokenizer than {run}/last: that is "
            "another run"
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


def _as_json(tokenizer: Tokenizer) -> str:
    return json.dumps(tokenizer_config(tokenizer), sort_keys=True)


def _prune(run: RunDirectory, newest: Path, keep: int) -> None:
    """Leaves the `keep` checkpoints up to the newest.

    Later ones hold steps that a resumed run runs again.
    """
    there = run.saved
    kept = there[: there.index(newest) + 1][-keep:]
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
