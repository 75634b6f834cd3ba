"""A run's checkpoint: the model, and all else that decides the steps to come."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simcse_tf.errors import UserError
from simcse_tf.files import whole_directory

STATE_FILE = "training_state.npz"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: int. Steps done.
        best: Optional float. The best evaluation so far.
        best_step: int. The step that reached it.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0


def save(directory: str, model: Any, progress: Progress) -> None:
    """Writes a directory that loads as a model and resumes as a run.

    Args:
        directory: string. Replaced whole or not at all.
        model: A compiled `simcse_tf.SimCSE`.
        progress: A `Progress`.

    Raises:
        OSError: If it cannot be written; an older one is then still there.
    """
    with whole_directory(directory) as path:
        model.write_preset(path)
        arrays = {name: variable.numpy() for name, variable in _variables(model)}
        np.savez(path / STATE_FILE, progress=json.dumps(asdict(progress)), **arrays)


def restore(directory: str, model: Any) -> Progress:
    """Puts a model, its optimizer and its random states back where they were.

    Args:
        directory: string. One that `save` wrote.
        model: A `simcse_tf.SimCSE` built and compiled from the same config.

    Returns:
        A `Progress`.

    Raises:
        UserError: If there is no such checkpoint or it is another model's.
    """
    path = Path(directory, STATE_FILE)
    if not path.is_file():
        raise UserError(f"--resume: no checkpoint {path}")
    with np.load(path) as saved:
        variables = _variables(model)
        names = {name for name, _ in variables}
        if names != set(saved.files) - {"progress"}:
            raise UserError(f"--resume: {path} is the checkpoint of another model")
        for name, variable in variables:
            variable.assign(saved[name])
        return Progress(**json.loads(str(saved["progress"])))


def _variables(model: Any) -> list[tuple[str, keras.Variable]]:
    model.optimizer.build(model.trainable_variables)
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    return [
        (f"{part}/{index}/{variable.path}", variable)
        for part, variables in parts.items()
        for index, variable in enumerate(variables)
    ]
