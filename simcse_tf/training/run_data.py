"""All data that a run needs, opened and checked before anything expensive."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.data.batches import steps_per_epoch
from simcse_tf.data.positives import training_source
from simcse_tf.data.sources import Source
from simcse_tf.evaluation.sts import Pairs, available_tasks, load_task
from simcse_tf.training import run_directory
from simcse_tf.training.config import Config


class RunData(NamedTuple):
    """The data of a run.

    Attributes:
        source: The training examples.
        last_step: int. The run's last step, counted from 1.
        dev: The STS pairs that choose the best model, by task.
        test: Those that it is scored on at the end, by task.
    """

    source: Source
    last_step: int
    dev: Mapping[str, Pairs]
    test: Mapping[str, Pairs]


def open_run(config: Config, resume: bool = False, chief: bool = True) -> RunData:
    """Checks that a run can begin or resume in its directory, and opens its data.

    Args:
        config: A `simcse_tf.training.config.Config`.
        resume: bool. Whether the run resumes. Defaults to `False`.
        chief: bool. Whether this worker writes the directory. Defaults to `True`.

    Raises:
        UserError: If the directory or the data cannot be used.
    """
    if chief:
        run_directory.check(Path(config.output_dir), config, resume)
    return open_data(config)


def open_data(config: Config) -> RunData:
    """Opens all data that a run needs.

    Raises:
        UserError: If something about them is wrong.
    """
    source = training_source(config)
    steps = steps_per_epoch(source, config.training.batch_size)
    last_step = config.training.max_steps or steps * config.training.epochs
    return RunData(source, last_step, *_evaluation_data(config))


def _evaluation_data(
    config: Config,
) -> tuple[Mapping[str, Pairs], Mapping[str, Pairs]]:
    directory = config.data.evaluation
    if directory is None:
        return {}, {}
    dev, test = (
        {
            task: load_task(directory, task, split)
            for task in available_tasks(directory, split)
        }
        for split in ("dev", "test")
    )
    if not dev:
        raise UserError(
            f"data.evaluation: expected a SentEval directory with STS/STSBenchmark or "
            f"SICK in it, received {directory}"
        )
    if config.evaluation.geometry_every and "STSBenchmark" not in dev:
        raise UserError(
            f"evaluation.geometry_every: expected STS/STSBenchmark in {directory}"
        )
    return dev, test if config.evaluation.test else {}
