"""How far a run has come: read from its checkpoints, without TensorFlow."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened
from simcse_tf.training.run_directory import STATE_FILE, RunDirectory

_PROGRESS = "progress"
# In it, how many arrays stand beside it.
_ARRAYS = "arrays"

_State: TypeAlias = "tuple[Progress, dict[str, np.ndarray]]"


@dataclass
class Progress:
    """How far a run has come, and with which data.

    Attributes:
        step: int. Batches seen. A step that loss scaling skips counts too.
        examples: int. How many examples the training data holds.
        data: string. The training data's fingerprint; empty in a run of an older
            version.
        dev: string. That of the data that choose the best model; empty without such,
            and in a run of an older version.
        teacher: string. What tells the teacher's embeddings from others; empty without
            a teacher.
        guide: string. That of the embeddings that say which negatives are false ones.
        best: Optional float. The best dev score so far, `-inf` where it is undefined.
        stale: int. Evaluations since then.
        ended: bool. Whether the run ends here, before its last step.
    """

    step: int = 0
    examples: int = 0
    data: str = ""
    dev: str = ""
    teacher: str = ""
    guide: str = ""
    best: float | None = None
    stale: int = 0
    ended: bool = False

    def count_evaluation(self, score: float, patience: int | None) -> None:
        """Takes a dev score into account.

        Args:
            score: float. What chooses the best model.
            patience: Optional int. Evaluations without a better score after which the
                run ends; `None` where it goes on.

        Example:

        ```python
        progress.count_evaluation(82.1, patience=3)
        ```
        """
        if self.best is None or score > self.best:
            self.best, self.stale = score, 0
        else:
            self.stale += 1
        self.ended = patience is not None and self.stale >= patience


def load_progress(run: str) -> Progress | None:
    """Reads how far a run's last checkpoint had come; `None` if there is none yet.

    Raises:
        UserError: If the checkpoint cannot be read.

    Example:

    ```python
    load_progress("runs/mine").step  # 500
    ```
    """
    directory = RunDirectory(run)
    if directory.newest is None:
        return None
    return _read(directory, arrays=False)[0]


def load_state(run: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a run's last checkpoint.

    Raises:
        UserError: If there is none, or one byte of it is not what was written.

    Example:

    ```python
    load_state("runs/mine")["optimizer/0/iteration"]
    ```
    """
    return _read(RunDirectory(run))[1]


def save_state(
    checkpoint: Path, progress: Progress, arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes what `load_progress` and `load_state` read into a checkpoint's directory.

    Raises:
        OSError: If it cannot be written.

    Example:

    ```python
    save_state(directory, Progress(step=500), arrays)
    ```
    """
    # Damage to the archive's list of contents may hide some of them.
    about = json.dumps({**asdict(progress), _ARRAYS: len(arrays)})
    named: dict[str, Any] = {_PROGRESS: about, **arrays}
    np.savez(checkpoint / STATE_FILE, **named)


def link_last(run: RunDirectory, checkpoint: Path) -> None:
    """Makes `last` a link to a checkpoint.

    Raises:
        OSError: If it cannot be written; `last` is then what it was.

    Example:

    ```python
    link_last(run, run.checkpoint(500))
    ```
    """
    with atomic_write(run.last) as link:
        link.symlink_to(checkpoint.relative_to(run.path))


def _read(run: RunDirectory, arrays: bool = True) -> _State:
    """What the newest checkpoint holds, with its arrays or without."""
    assert run.newest
    try:
        return _read_checkpoint(run.newest, arrays)
    # Damaged bytes end in a dozen kinds of exception from zipfile, NumPy and zlib.
    except Exception as error:
        path = run.newest / STATE_FILE
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(
            f"--resume: cannot read {path}: {reason}; {_way_out(run)}"
        ) from None


def _read_checkpoint(checkpoint: Path, arrays: bool = True) -> _State:
    # What is read whole is compared with its checksum in the archive.
    with np.load(checkpoint / STATE_FILE) as saved:
        progress, expected = _progress(json.loads(str(saved[_PROGRESS])))
        names = [name for name in saved.files if name != _PROGRESS]
        found = {name: saved[name] for name in names} if arrays else {}
    # A checkpoint of an older version does not say.
    if arrays and expected not in (None, len(found)):
        raise ValueError(f"it lists {len(found)} of {expected} arrays")
    return progress, found


def _progress(values: dict[str, Any]) -> tuple[Progress, Any]:
    """How far a run has come, and how many arrays its checkpoint holds."""
    known = {
        field.name: values[field.name]
        for field in fields(Progress)
        if field.name in values
    }
    progress = Progress(**known)
    if not isinstance(progress.step, int):
        raise ValueError(f"no step: {progress.step!r}")
    return progress, values.get(_ARRAYS)


def _way_out(run: RunDirectory) -> str:
    """What to do where the newest checkpoint is damaged."""
    assert run.newest
    for checkpoint in reversed(run.saved):
        if checkpoint.resolve() == run.newest.resolve():
            continue
        try:
            _read_checkpoint(checkpoint)
        except Exception:
            continue
        return (
            f"{checkpoint} is whole: to resume from it, make {run.last} a link to "
            f"{checkpoint.relative_to(run.path)}"
        )
    return (
        "no other checkpoint is whole: begin again in another output_dir "
        "(training.keep keeps several checkpoints)"
    )
