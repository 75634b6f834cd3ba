"""A training run: the model, its steps, and its scores at the end."""

import functools
import math
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from simcse_tf.core.errors import NotFinite, UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.data.batches import problems_told, training_batches
from simcse_tf.distributed import collectives
from simcse_tf.distributed.strategy import (
    distribute,
    is_chief,
    lost_peers_reported,
    strategy_of,
)
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoding.arguments import say_how_read
from simcse_tf.encoding.bulk import encoder, load_encoder
from simcse_tf.evaluation import geometry, sts
from simcse_tf.evaluation.sts import Encoder
from simcse_tf.model.compilation import JitCompile
from simcse_tf.model.lora import enable_lora
from simcse_tf.model.simcse import SimCSE
from simcse_tf.training import callbacks, checkpoint
from simcse_tf.training.announcements import (
    report_compilation,
    report_data,
    report_lora,
)
from simcse_tf.training.callbacks import RunLog
from simcse_tf.training.config import Config
from simcse_tf.training.divergence import Guard, LossWatch, diverged
from simcse_tf.training.objective import objective_of
from simcse_tf.training.optimizer import LinearDecay, adam
from simcse_tf.training.progress import Progress
from simcse_tf.training.run_data import (
    SELECTION_TASK,
    RunData,
    open_run,
    progress_of,
)
from simcse_tf.training.run_directory import RunDirectory, writing
from simcse_tf.training.run_start import begin
from simcse_tf.training.sigterm import sigterm, stopped
from simcse_tf.training.teacher import Teacher, embed_texts, load_guide, load_teacher

_JIT_COMPILE: dict[str, JitCompile] = {"auto": "auto", "xla": True, "none": False}


def train(
    config: Config, resume: bool = False, data: RunData | None = None
) -> dict[str, float]:
    """Trains, evaluates and saves as a config describes.

    Everything that can be wrong with the input is checked before the model is
    loaded and before anything is written.

    Args:
        config: A `simcse_tf.training.config.Config`.
        resume: bool. Whether to resume from the last checkpoint in the output
            directory. Defaults to `False`.
        data: Optional `RunData` that `open_run` has opened for this config, and keeps
            open. Defaults to opening it here.

    Returns:
        Test scores (Spearman times 100) of the best checkpoint by task, and their
        mean as `"avg"`; empty without evaluation data or with `evaluation.test`
        off, and on workers other than the chief.

    Raises:
        UserError: If the data, the model or the output directory cannot be used, or
            the disk is full.
        Stopped: If SIGTERM came and the run has been saved.
        Diverged: If its numbers are no longer finite. The checkpoint before stays.
        PeerLost: If another worker is gone.

    Example:

    ```python
    train(load_config("configs/sup.json"))  # {"STS12": 75.3, ..., "avg": 81.6}
    ```
    """
    with lost_peers_reported():
        return _train(config, resume, data)


def _train(config: Config, resume: bool, data: RunData | None) -> dict[str, float]:
    # Before anything else, since TensorFlow must not have started yet.
    strategy = strategy_of(config.training.strategy, config.training.tpu)
    _check_replicas(config, strategy.num_replicas_in_sync)
    if data is None:
        with open_run(config, resume, is_chief()) as data:
            return _run(config, resume, data, strategy)
    return _run(config, resume, data, strategy)


def _run(
    config: Config, resume: bool, data: RunData, strategy: tf.distribute.Strategy
) -> dict[str, float]:
    output, chief = Path(config.output_dir), is_chief()
    progress = progress_of(config, data, resume)

    teacher = load_teacher(config, data.source, progress)
    guide = load_guide(config, data.source, progress)
    with strategy.scope():
        model = build_model(config, data.last_step, teacher, guide)
        if progress.step:
            checkpoint.restore(config.output_dir, model)
    _check_same_step(output, progress.step)
    problems = embed_texts(teacher, guide)
    # Their weights are not needed any more.
    del teacher, guide
    if chief:
        begin(output, config)
        say_how_read(model, config.model.preset)
        report_data(data, resume, progress.step)
        report_lora(model, config.training.lora_rank)
        report_compilation(model)
    fit(model, data, config, progress, problems)
    scores = _final_scores(config, model, data) if chief else {}
    # A worker that left before the others would count as lost.
    collectives.any_worker(False)
    return scores


def build_model(
    config: Config,
    last_step: int,
    teacher: Teacher | None = None,
    guide: Teacher | None = None,
) -> SimCSE:
    """The compiled model of a run, its random numbers seeded by the config.

    Args:
        config: A `simcse_tf.training.config.Config`.
        last_step: int. The last step of the schedule.
        teacher: Optional `Teacher`, where the config names one.
        guide: Optional `Teacher`, where the config names a guide.

    Example:

    ```python
    model = build_model(load_config("configs/sup.json"), last_step=1000)
    ```
    """
    keras.utils.set_random_seed(config.training.seed)
    jit_compile = _JIT_COMPILE[config.training.compile]
    model = SimCSE.from_preset(
        dtype=config.training.precision,
        # Else as the device has it.
        static_shapes=True if jit_compile is True else None,
        **config.model.settings(),
    )
    if config.training.lora_rank is not None:
        enable_lora(
            model,
            config.training.lora_rank,
            config.training.lora_alpha,
            config.training.lora_targets,
        )
    schedule = LinearDecay(
        config.training.learning_rate, last_step, config.training.warmup_steps
    )
    optimizer = adam(schedule, config.training.weight_decay, config.training.clip_norm)
    model.compile(
        optimizer,
        objective=objective_of(config.objective, teacher, guide),
        micro_batch_size=config.training.micro_batch_size,
        jit_compile=jit_compile,
    )
    return model


def fit(
    model: SimCSE,
    data: RunData,
    config: Config,
    progress: Progress,
    problems: list[UserError],
) -> None:
    """Runs the steps that are left, an epoch at a time.

    Args:
        model: The compiled model.
        data: The run's data.
        config: The run's config.
        progress: How far it has come.
        problems: Gets what the input pipeline raises.

    Raises:
        UserError: If the output directory cannot be written.
        Stopped: If SIGTERM came and the run has been saved.
        Diverged: If the loss, the weights or the dev embeddings are not finite.

    Example:

    ```python
    fit(model, data, config, Progress(examples=len(data.source)), [])
    ```
    """

    steps, last_step = data.steps_per_epoch, data.last_step
    epochs = math.ceil(last_step / steps)
    chief = is_chief()
    with (
        sigterm() as must_stop,
        _run_log(config, progress) as log,
        problems_told(problems),
    ):
        watch = _callbacks(config, data, progress, log, must_stop)
        while progress.step < last_step:
            epoch, first = progress.step // steps, progress.step
            end = min((epoch + 1) * steps, last_step)
            batches = functools.partial(
                _batches, model, data, config, range(first, end), problems
            )
            model.fit(
                distribute(model.distribute_strategy, batches),
                steps_per_epoch=end - first,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=keras.callbacks.CallbackList(
                    watch,
                    add_history=True,
                    add_progbar=chief,
                    model=model,
                    verbose=1,
                    epochs=epochs,
                    steps=end - first,
                ),
            )
        # SIGTERM may have come after the last step's callbacks, when all is saved.
        if must_stop():
            raise stopped(progress)


def _batches(
    model: SimCSE,
    data: RunData,
    config: Config,
    steps: range,
    problems: list[UserError],
    replicas: int,
    own: range,
) -> Any:

    batches = training_batches(
        data.source,
        config.training.batch_size,
        steps.start,
        steps.stop,
        config.data.shuffle,
        config.data.seed,
        replicas,
        own,
        problems,
        data.plan,
    )
    return batches.map(model.prepare, tf.data.AUTOTUNE)


def _run_log(config: Config, progress: Progress) -> Any:
    if not is_chief():
        return nullcontext()
    return closing(RunLog(config.output_dir, progress))


def _callbacks(
    config: Config,
    data: RunData,
    progress: Progress,
    log: RunLog | None,
    must_stop: Callable[[], bool],
) -> list[Any]:

    training, last_step = config.training, data.last_step
    guarded: list[Any] = [LossWatch(progress, last_step)]
    if log and data.dev:
        guarded.append(
            callbacks.STSEvaluation(
                lambda model: sts.evaluate_pairs(_encoder(model), data.dev, math.nan),
                config.output_dir,
                progress,
                training.evaluate_every,
                last_step,
            )
        )
    if log and config.evaluation.geometry_every:
        guarded.append(
            callbacks.GeometryEvaluation(
                lambda model: geometry.stsb_geometry(
                    _encoder(model), data.dev[SELECTION_TASK]
                ),
                progress,
                config.evaluation.geometry_every,
                last_step,
            )
        )
    guard = Guard(guarded)
    save = callbacks.Checkpoint(
        config.output_dir if log else None,
        training.keep,
        must_stop,
        guard,
        progress,
        training.checkpoint_every,
        last_step,
    )
    clock = callbacks.StepClock(progress, training.batch_size)
    return [clock, guard, *([log] if log else []), save]


def _encoder(model: SimCSE) -> Encoder:
    return encoder(model, longest_input(model.backbone))


def _check_replicas(config: Config, replicas: int) -> None:
    training = config.training
    if training.batch_size % replicas:
        raise UserError(
            f"training.batch_size: expected a multiple of the {replicas} replicas, "
            f"received {training.batch_size}"
        )
    rows = training.batch_size // replicas
    if training.micro_batch_size and rows % training.micro_batch_size:
        raise UserError(
            f"training.micro_batch_size: expected a divisor of a replica's batch of "
            f"{rows}, received {training.micro_batch_size}"
        )


def _check_same_step(output: Path, step: int) -> None:
    found = collectives.every_worker(step)
    if len(set(found)) > 1:
        raise UserError(
            f"--resume: the workers found checkpoints of steps "
            f"{', '.join(map(str, found))} in {output}: all of them need the same files"
        )


def _final_scores(config: Config, model: SimCSE, data: RunData) -> dict[str, float]:
    directory = RunDirectory(config.output_dir)
    if not config.data.evaluation:
        # Without dev scores the last model counts as the best.
        _check_embeds(model, config, data.last_step)
        with writing(directory.best):
            checkpoint.save_best(config.output_dir, model)
        return {}
    encode = load_encoder(str(directory.best), progress=True)
    _report_best(directory.dev_scores)
    if not data.test:
        return {}
    scores = sts.evaluate_pairs(encode, data.test)
    with writing(directory.test_file):
        write_json(directory.test_file, scores)
    print(sts.format_table(scores))
    return scores


def _check_embeds(model: SimCSE, config: Config, last_step: int) -> None:
    """Finite weights can be so large that no embedding is finite."""
    try:
        _encoder(model)(["a"])
    except NotFinite as error:
        raise diverged(error, last_step, config.output_dir) from None


def _report_best(scores: dict[str, float] | None) -> None:
    if scores:
        selected = callbacks.selection_score(scores)
        score = f"{selected:.2f}" if math.isfinite(selected) else "no score that counts"
        print(f"best: step {scores['step']}, {score} on dev")
