"""All data that a run needs, opened and checked before anything expensive."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from simcse_tf.core.errors import UserError
from simcse_tf.data.augmentation import Augmenter, word_augmenter
from simcse_tf.data.base import Source
from simcse_tf.data.batches import steps_per_epoch
from simcse_tf.data.named import shown_train
from simcse_tf.data.no_duplicates import NoDuplicates
from simcse_tf.data.positives import AugmentedSource, NextSentenceSource
from simcse_tf.data.sources import open_one, open_source
from simcse_tf.evaluation.sts import Pairs, available_tasks, load_task
from simcse_tf.objectives.defaults import SCORED_KINDS
from simcse_tf.training.config import Config
from simcse_tf.training.progress import Progress, load_progress
from simcse_tf.training.run_start import claimed

# The paper selects checkpoints by STS-B; without it the mean decides.
SELECTION_TASK = "STSBenchmark"


class RunData(NamedTuple):
    """The data of a run.

    Attributes:
        source: The training examples.
        steps_per_epoch: int. Batches an epoch.
        last_step: int. The run's last step, counted from 1.
        dev: The STS pairs that choose the best model, by task.
        test: Those that it is scored on at the end, by task.
        plan: The batches of `data.no_duplicates`. Defaults to `None`.
    """

    source: Source
    steps_per_epoch: int
    last_step: int
    dev: Mapping[str, Pairs]
    test: Mapping[str, Pairs]
    plan: NoDuplicates | None = None


@contextmanager
def open_run(
    config: Config, resume: bool = False, chief: bool = True
) -> Iterator[RunData]:
    """Keeps other processes out of a run's directory, and opens the run's data.

    Args:
        config: A `simcse_tf.training.config.Config`.
        resume: bool. Whether the run resumes. Defaults to `False`.
        chief: bool. Whether this worker writes the directory. Defaults to `True`.

    Raises:
        UserError: If the directory or the data cannot be used.

    Example:

    ```python
    with open_run(load_config("configs/sup.json")) as data:
        print(data.last_step)
    ```
    """
    if not chief:
        yield open_data(config)
        return
    with claimed(Path(config.output_dir), config, resume):
        yield open_data(config)


def open_data(config: Config) -> RunData:
    """Opens all data that a run needs.

    Raises:
        UserError: If something about them is wrong.

    Example:

    ```python
    open_data(load_config("configs/sup.json")).source.columns  # 3
    ```
    """
    source, batch_size = training_source(config), config.training.batch_size
    steps = steps_per_epoch(source, batch_size)
    evaluation, plan = _evaluation_data(config), None
    if config.data.no_duplicates:
        plan = _plan(config, source)
        steps = plan.steps
    last_step = config.training.max_steps or steps * config.training.epochs
    return RunData(source, steps, last_step, *evaluation, plan)


def _plan(config: Config, source: Source) -> NoDuplicates:
    # Two augmentations differ where their sentences do, and may cost a model's pass.
    texts = source.sentences if isinstance(source, AugmentedSource) else source
    return NoDuplicates(
        texts, config.training.batch_size, config.data.shuffle, config.data.seed
    )


def progress_of(config: Config, data: RunData, resume: bool) -> Progress:
    """How far a run has come, with data that are still the same.

    Args:
        config: A `simcse_tf.training.config.Config`.
        data: Its data.
        resume: bool. Whether it resumes; else it begins.

    Raises:
        UserError: If its last checkpoint cannot be read, or is of other data.

    Example:

    ```python
    progress_of(config, data, resume=True).step  # 500
    ```
    """
    progress = _beginning(data)
    if resume and (found := load_progress(config.output_dir)):
        check_same_data(config, data, found)
        progress.step = found.step
        progress.teacher, progress.guide = found.teacher, found.guide
        # It may have evaluation data again later.
        progress.dev = progress.dev or found.dev
    return progress


def check_same_data(config: Config, data: RunData, progress: Progress) -> None:
    """Checks that a run goes on with the data that it began with.

    Args:
        config: Its config.
        data: What the config names.
        progress: What its last checkpoint says.

    Raises:
        UserError: If they are other ones.

    Example:

    ```python
    check_same_data(config, open_data(config), load_progress("runs/mine"))
    ```
    """
    now = _beginning(data)
    train = f"data.train {shown_train(config.data.train)}"
    dev = f"data.evaluation {config.data.evaluation}"
    for what, holds, held in (
        (train, f"{now.examples} examples", f"{progress.examples} examples"),
        (train, now.data, progress.data),
        (dev, now.dev, progress.dev),
    ):
        # A run may have no evaluation data, and one of an older version does not say.
        if holds and held and holds != held:
            raise UserError(
                f"--resume: {what} holds {holds}, and held {held} when the run began: "
                "that is another run"
            )


def _beginning(data: RunData) -> Progress:
    source = data.source
    return Progress(0, len(source), source.fingerprint, _fingerprint(data.dev))


def training_source(config: Config) -> Source:
    """The examples of a run, each with the positive that its config asks for.

    Args:
        config: A `simcse_tf.training.config.Config`.

    Raises:
        UserError: If the data cannot be read or do not fit the objective, or what
            the augmentation needs is not there.

    Example:

    ```python
    training_source(load_config("configs/sup.json")).columns  # 3
    ```
    """
    data, objective = config.data, config.objective
    open_train = functools.partial(open_source, data.train, data.shuffle, data.seed)
    if objective.kind == "next_sentence":
        return open_train(
            lambda path: NextSentenceSource(path, objective.next_k, data.seed)
        )
    source = open_train(
        functools.partial(open_one, columns=data.columns, quoting=data.quoting)
    )
    _check_scores(source, config)
    if data.augmentation != "none":
        _check_sentences(source, config, f"data.augmentation {data.augmentation}")
        return AugmentedSource(source, _augmenter(config), data.seed)
    if objective.same_mask:
        _check_sentences(source, config, "objective.same_mask")
    return source


def _augmenter(config: Config) -> Augmenter:
    data = config.data
    if data.augmentation != "mlm":
        return word_augmenter(data.augmentation, data.augmentation_rate)
    from simcse_tf.data.word_replacement import WordReplacer

    model = data.augmentation_model or config.model.preset
    return WordReplacer(model, data.augmentation_rate)


def _check_scores(source: Source, config: Config) -> None:
    key, train = f"objective.kind {config.objective.kind}", config.data.train
    if source.scored and not config.objective.scored:
        raise UserError(
            f"{key}: expected texts alone in data.train, received pairs with scores "
            f"({shown_train(train)}): objective.kind {' or '.join(SCORED_KINDS)} is "
            "trained on them; data.columns may name the texts alone"
        )
    if config.objective.scored and not source.scored:
        raise UserError(
            f"{key}: expected data.train to hold pairs with scores (columns sentence1, "
            f"sentence2, score), received {shown_train(train)} with {source.columns} "
            "columns of texts and no scores"
        )


def _check_sentences(source: Source, config: Config, key: str) -> None:
    if source.columns != 1:
        raise UserError(
            f"{key}: expected data.train to hold single sentences, received "
            f"{shown_train(config.data.train)} with {source.columns} columns"
        )


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


def _fingerprint(dev: Mapping[str, Pairs]) -> str:
    """What tells the pairs that choose the best model from others; empty without."""
    if not dev:
        return ""
    chosen = {SELECTION_TASK: dev[SELECTION_TASK]} if SELECTION_TASK in dev else dev
    values = [
        [task, *pairs.sentences_a, *pairs.sentences_b, *map(float, pairs.scores)]
        for task, pairs in sorted(chosen.items())
    ]
    return f"sha256 {hashlib.sha256(json.dumps(values).encode()).hexdigest()}"
