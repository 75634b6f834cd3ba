"""A run's directory: whether a run may begin or go on there, and a full disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simcse_tf.core.atomic import atomic_write, clean_up
from simcse_tf.core.errors import UserError
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


def check(output: Path, config: Config, resume: bool) -> None:
    """Checks that a run can begin, or go on, in a directory.

    Args:
        output: The directory. Need not be there.
        config: The run's config.
        resume: bool. Whether the run is to go on.

    Raises:
        UserError: If the directory cannot be written, holds a run that would be
            overwritten, or none to go on with, or one of another config.
    """
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"output_dir {output}: {there} is not a writable directory")
    begun = output / "config.json"
    if resume and not begun.exists():
        raise UserError(f"--resume: output_dir {output} holds no run to go on with")
    if resume:
        _check_same(load_config(str(begun)), config)
    elif any((output / name).exists() for name in ("config.json", "best", "last")):
        raise UserError(
            f"output_dir {output} holds a run already: pass --resume to go on with "
            "it, or choose another directory"
        )


def begin(output: Path, config: Config) -> None:
    """Writes the config, and removes what a killed run left half written.

    Raises:
        UserError: If the directory cannot be written.
    """
    with writing(output):
        clean_up(output)
        clean_up(output / "checkpoints")
        with atomic_write(output / "config.json") as path:
            path.write_text(config.to_json(), "utf-8")


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tells a full disk or a directory that cannot be written in one line.

    Args:
        path: What the block writes.

    Raises:
        UserError: If the block fails to write it.
    """
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"cannot write {path}: {_reason(error)}; what was saved before is whole, "
            "and --resume goes on from it"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # TensorFlow says "{{operation}} file; reason", and what it was about to do.
    return str(error).splitlines()[0].rpartition("; ")[2]


def _check_same(begun: Config, now: Config) -> None:
    before, after = _flat(begun.model_dump()), _flat(now.model_dump())
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


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
