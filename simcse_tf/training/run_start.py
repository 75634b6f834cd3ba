"""Whether a run may begin, or be resumed, in a directory."""

import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simcse_tf.core.atomic import atomic_write, clean_up, remove_directory
from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import locked
from simcse_tf.core.regular_files import shown_path
from simcse_tf.training.config import Config
from simcse_tf.training.progress import link_last, load_progress
from simcse_tf.training.run_directory import RunDirectory, writing

# A resumed run may differ from what was begun in these keys only: paths may move,
# a run may become longer, and the others change no step but for its rounding (the
# number of replicas, its dropout masks too).
RESUMABLE_KEYS = (
    "output_dir",
    "data.train",
    "data.evaluation",
    "model.preset",
    "objective.false_negative_guide",
    "objective.teacher.model",
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
    "evaluation.patience",
)


@contextmanager
def claimed(output: Path, config: Config, resume: bool) -> Iterator[None]:
    """Keeps other processes out of a directory in which a run may begin or be resumed.

    Args:
        output: The directory. Is made if missing; it goes again if nothing is written.
        config: The run's config.
        resume: bool. Whether the run is to be resumed.

    Raises:
        UserError: If another process trains there, or see `check`.

    Example:

    ```python
    with claimed(Path("runs/mine"), load_config("configs/sup.json"), resume=False):
        train()
    ```
    """
    check_place(output)
    busy = (
        f"output_dir {output}: another process trains there: wait for its end, or "
        "choose another directory"
    )
    with locked(RunDirectory(output).lock_file, busy):
        check(output, config, resume)
        yield


def check_place(output: Path) -> None:
    """Checks that a directory can be written.

    Args:
        output: The directory. Need not be there.

    Raises:
        UserError: If it cannot be written or made.

    Example:

    ```python
    check_place(Path("runs/mine"))
    ```
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(output)
        paths = (output, *output.absolute().parents)
        there = next(path for path in paths if path.exists())
    except (OSError, ValueError) as error:
        # Without strerror: a NUL in the name, or half a surrogate pair.
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"output_dir {shown_path(output)}: {reason}") from None
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"output_dir {output}: {there} is not a writable directory")


def check(output: Path, config: Config, resume: bool) -> None:
    """Checks that a run can begin, or be resumed, in a directory.

    Args:
        output: The directory. Need not be there.
        config: The run's config.
        resume: bool. Whether the run is to be resumed.

    Raises:
        UserError: If the directory holds a run that would be overwritten, or none to
            resume, or one of another config, or one whose files are damaged.

    Example:

    ```python
    check(Path("runs/mine"), load_config("configs/sup.json"), resume=False)
    ```
    """
    run = RunDirectory(output)
    if not resume and run.has_begun():
        raise UserError(
            f"output_dir {output} holds a run already: pass --resume to resume it, "
            "or choose another directory"
        )
    if run.written and not run.has_begun():
        raise UserError(
            f"output_dir {output} holds a run's {run.written[0].name}, but no "
            f"{run.config_file.name}: put it back to resume the run, or choose another "
            "directory"
        )
    if not resume:
        return
    if not run.has_begun():
        raise UserError(f"--resume: output_dir {output} holds no run to resume")
    if changed := changed_keys(run.config, config, RESUMABLE_KEYS):
        raise UserError(
            f"--resume: {changed}: that is another run; what may change is "
            f"{', '.join(RESUMABLE_KEYS)}"
        )
    _check_whole(run)


def changed_keys(begun: Config, now: Config, allowed: Collection[str]) -> str:
    """Says which keys of a config have other values than when a run began.

    Args:
        begun: The config that it began with.
        now: The one that it is to go on with.
        allowed: The keys that may change.

    Example:

    ```python
    changed_keys(before, after, ["output_dir"])  # "data.seed was 42 and is 1"
    ```
    """
    before, after = begun.flat(), now.flat()
    # The keys of a section that one of them lacks are null there.
    return ", ".join(
        f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in {**before, **after}
        if before.get(key) != after.get(key) and key not in allowed
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
        _link_last(run)
        with atomic_write(run.config_file) as path:
            path.write_text(config.to_json(), "utf-8")


def _check_whole(run: RunDirectory) -> None:
    """Checks that a copy has lost nothing that the run needs, or would lose then."""
    steps, evaluated = _logged(run)
    saved = load_progress(str(run.path))
    if saved is None and steps > run.config.training.checkpoint_every:
        # The run would begin anew, and its log with it.
        raise UserError(
            f"--resume: {run.path} holds the log of {steps} steps, but neither "
            f"{run.last.name} nor {run.checkpoints.name}/: put them back, or choose "
            "another directory"
        )
    if saved and steps < saved.step:
        raise UserError(
            f"--resume: {run.metrics_file} holds {steps} steps, and the last "
            f"checkpoint is of step {saved.step}: put the whole log back"
        )
    if run.dev_scores is None and saved and evaluated:
        raise UserError(
            f"--resume: {run.path} has been evaluated, but there is no "
            f"{run.best.name}/ with its scores: put it back"
        )


def _logged(run: RunDirectory) -> tuple[int, bool]:
    """How many steps are in the log, and whether a dev score that counts is."""
    rows = run.metrics()
    scores = [row["dev_avg"] for row in rows if "dev_avg" in row]
    return len(rows), any(map(math.isfinite, scores))


def _link_last(run: RunDirectory) -> None:
    """Makes `last` a link again, where a copy has a directory there, or nothing."""
    newest, progress = run.newest, load_progress(str(run.path))
    if newest is None or progress is None or run.last.is_symlink():
        return
    if newest == run.last:
        newest = run.checkpoint(progress.step)
        if newest.exists():
            remove_directory(newest)
        run.checkpoints.mkdir(exist_ok=True)
        run.last.rename(newest)
    link_last(run, newest)
