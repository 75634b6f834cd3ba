"""`python -m simcse_tf.train`: a training run from a config."""

import functools
import json
import math
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcse_tf.cli import Parser, run
from simcse_tf.config import Config, load_config
from simcse_tf.errors import UserError
from simcse_tf.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simcse_tf.callbacks import RunLog
    from simcse_tf.checkpoint import Progress
    from simcse_tf.data import Source
    from simcse_tf.evaluation.sts import Pairs
    from simcse_tf.model import SimCSE
    from simcse_tf.run_data import RunData


def train(config: Config, resume: bool = False) -> dict[str, float]:
    """Trains, evaluates and saves as a config says.

    Everything that can be wrong with the input is checked before the model is
    loaded and before anything is written.

    Args:
        config: A `simcse_tf.config.Config`.
        resume: bool. Go on from the last checkpoint in the output directory.
            Defaults to `False`.

    Returns:
        Test scores (Spearman times 100) of the best checkpoint by task, and their
        mean as `"avg"`; empty without evaluation data or with `evaluation.test`
        off, and on workers other than the chief.

    Raises:
        UserError: If the data, the model or the output directory cannot be used, or
            the disk is full.
        Stopped: If SIGTERM came and the run has been saved.
        PeerLost: If another worker is gone.
    """
    # A mistake is told before TensorFlow is imported, but where others would wait long
    # for a worker that has not joined them.
    alone = config.training.strategy != "multi_worker"
    data = _open_data(config, resume) if alone else None

    from simcse_tf import distribution

    with distribution.lost_peers_told():
        return _train(config, resume, data)


def _open_data(config: Config, resume: bool, chief: bool = True) -> "RunData":
    from simcse_tf import run_data, run_directory

    if chief:
        run_directory.check(Path(config.output_dir), config, resume)
    return run_data.open_data(config)


def _train(config: Config, resume: bool, data: "RunData | None") -> dict[str, float]:
    from simcse_tf import checkpoint, distribution, run_directory

    # Before anything else, since TensorFlow must not have started yet.
    strategy = distribution.strategy(config.training.strategy, config.training.tpu)
    _check_replicas(config, strategy.num_replicas_in_sync)
    output, chief = Path(config.output_dir), distribution.is_chief()
    data = data or _open_data(config, resume, chief)
    progress = _progress(config, resume, len(data.source))

    with strategy.scope():
        model = build_model(config, data.last_step)
        if progress.step:
            checkpoint.restore(config.output_dir, model)
    _check_same_step(output, progress.step)
    if chief:
        run_directory.begin(output, config)
        _report(data, config, resume, progress.step)
    fit(model, data, config, progress)
    scores = _final_scores(config, model, data.test) if chief else {}
    # A worker that left before the others would count as lost.
    distribution.any_worker(False)
    return scores


def _progress(config: Config, resume: bool, examples: int) -> "Progress":
    from simcse_tf import checkpoint

    found = checkpoint.load_progress(config.output_dir) if resume else None
    if found and found.examples != examples:
        raise UserError(
            f"--resume: data.train {config.data.train} holds {examples} examples, and "
            f"{found.examples} when the run began: that is another run"
        )
    return found or checkpoint.Progress(examples=examples)


def build_model(config: Config, last_step: int) -> "SimCSE":
    """The compiled model of a run, its random numbers seeded by the config."""
    import keras

    from simcse_tf import optimization
    from simcse_tf.model import SimCSE

    keras.utils.set_random_seed(config.training.seed)
    model = SimCSE.from_preset(
        config.model.preset,
        head_init=config.model.head_init,
        dropout=config.model.dropout,
        dtype=config.training.precision,
        pooling=config.model.pooling,
        head_in_inference=config.model.head_in_inference,
        max_length=config.model.max_length,
        temperature=config.objective.temperature,
        hard_negative_weight=config.objective.hard_negative_weight,
        mlm_weight=config.objective.mlm_weight,
        mlm_probability=config.objective.mlm_probability,
        encoders=config.model.encoders,
        same_mask=config.objective.same_mask,
    )
    schedule = optimization.LinearDecay(
        config.training.learning_rate, last_step, config.training.warmup_steps
    )
    optimizer = optimization.adam(
        schedule, config.training.weight_decay, config.training.clip_norm
    )
    model.compile(optimizer, micro_batch_size=config.training.micro_batch_size)
    return model


def fit(model: "SimCSE", data: "RunData", config: Config, progress: "Progress") -> None:
    """Runs the steps that are left, an epoch at a time.

    Raises:
        UserError: If the output directory cannot be written.
        Stopped: If SIGTERM came and the run has been saved.
    """
    import keras

    from simcse_tf import callbacks, distribution
    from simcse_tf.data import steps_per_epoch

    source, last_step = data.source, data.last_step
    steps = steps_per_epoch(source, config.training.batch_size)
    epochs = math.ceil(last_step / steps)
    chief = distribution.is_chief()
    with callbacks.sigterm() as must_stop, _run_log(config, progress) as log:
        watch = _callbacks(config, data, progress, log, must_stop)
        while progress.step < last_step:
            epoch, first = progress.step // steps, progress.step
            end = min((epoch + 1) * steps, last_step)
            batches = functools.partial(
                _batches, model, source, config, range(first, end)
            )
            model.fit(
                distribution.distribute(model.distribute_strategy, batches),
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
        # It may have come after the last step's callbacks, when all is saved.
        if must_stop():
            raise callbacks.stopped(progress)


def _batches(
    model: "SimCSE",
    source: "Source",
    config: Config,
    steps: range,
    replicas: int,
    own: range,
) -> Any:
    import tensorflow as tf

    from simcse_tf import data

    batches = data.batches(
        source,
        config.training.batch_size,
        steps.start,
        steps.stop,
        config.data.shuffle,
        config.data.seed,
        replicas,
        own,
    )
    return batches.map(model.prepare, tf.data.AUTOTUNE)


def _run_log(config: Config, progress: "Progress") -> Any:
    from simcse_tf import callbacks, distribution

    if not distribution.is_chief():
        return nullcontext()
    return closing(callbacks.RunLog(config.output_dir, progress))


def _callbacks(
    config: Config,
    data: "RunData",
    progress: "Progress",
    log: "RunLog | None",
    must_stop: Callable[[], bool],
) -> list[Any]:
    from simcse_tf import callbacks
    from simcse_tf.evaluation import geometry, sts

    training, last_step = config.training, data.last_step
    watch: list[Any] = [callbacks.StepClock(progress, training.batch_size)]
    if log and data.dev:
        watch.append(
            callbacks.STSEvaluation(
                lambda model: sts.evaluate_pairs(_encoder(model), data.dev),
                config.output_dir,
                progress,
                training.evaluate_every,
                last_step,
            )
        )
    if log and config.evaluation.geometry_every:
        watch.append(
            callbacks.GeometryEvaluation(
                lambda model: geometry.stsb_geometry(
                    _encoder(model), data.dev[callbacks.SELECTION_TASK]
                ),
                progress,
                config.evaluation.geometry_every,
                last_step,
            )
        )
    if log:
        watch.append(log)
    watch.append(
        callbacks.Checkpoint(
            config.output_dir if log else None,
            training.keep,
            must_stop,
            progress,
            training.checkpoint_every,
            last_step,
        )
    )
    return watch


def _encoder(model: "SimCSE", progress: bool = False) -> Any:
    from simcse_tf.encode import encoder
    from simcse_tf.model import longest_input

    return encoder(model, longest_input(model.backbone), progress)


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
    from simcse_tf import distribution

    found = distribution.every_worker(step)
    if len(set(found)) > 1:
        raise UserError(
            f"--resume: the workers found checkpoints of steps "
            f"{', '.join(map(str, found))} in {output}: all of them need the same files"
        )


def _report(data: "RunData", config: Config, resume: bool, done: int) -> None:
    from simcse_tf.data import steps_per_epoch

    source = data.source
    steps = steps_per_epoch(source, config.training.batch_size)
    kind = {1: "sentences", 2: "pairs", 3: "triplets"}[source.columns]
    skipped = f", {source.skipped} blank lines skipped" if source.skipped else ""
    print(
        f"{len(source)} {kind}{skipped}; {steps} steps an epoch, "
        f"{data.last_step} in all"
    )
    if done:
        print(f"going on after step {done}")
    elif resume:
        print("no checkpoint yet: the run begins again")


def _final_scores(
    config: Config, model: "SimCSE", test: "Mapping[str, Pairs]"
) -> dict[str, float]:
    from simcse_tf import checkpoint
    from simcse_tf.evaluation import sts
    from simcse_tf.model import SimCSE
    from simcse_tf.run_directory import writing

    output = Path(config.output_dir)
    if not config.data.evaluation:
        # Nothing says that an earlier model was better.
        with writing(output / "best"):
            checkpoint.save_best(config.output_dir, model)
        return {}
    best = SimCSE.from_preset(str(output / "best"))
    _report_best(checkpoint.best_scores(config.output_dir))
    if not test:
        return {}
    scores = sts.evaluate_pairs(_encoder(best, progress=True), test)
    with writing(output / "test.json"), whole_file(output / "test.json") as path:
        path.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    print(sts.format_table(scores))
    return scores


def _report_best(scores: dict[str, float] | None) -> None:
    from simcse_tf.callbacks import selection_score

    if scores:
        print(f"best: step {scores['step']}, {selection_score(scores):.2f} on dev")


def _split_cpu(count: int, strategy: str) -> None:
    if count < 1:
        raise UserError(f"--logical-devices: expected 1 or more, received {count}")
    if strategy == "multi_worker":
        raise UserError(
            "--logical-devices: multi_worker takes one CPU device of each worker; "
            "start more workers instead"
        )
    from simcse_tf import distribution

    distribution.split_cpu(count)


def main() -> None:
    parser = Parser("simcse_tf.train", description="Train SimCSE from a JSON config.")
    parser.add_argument("--config", required=True, metavar="CONFIG.json")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key.sub=value",
        help="values over the config's, e.g. training.batch_size=64",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in output_dir"
    )
    parser.add_argument(
        "--logical-devices",
        type=int,
        metavar="N",
        help="split the CPU into N devices, to try training.strategy=mirrored",
    )
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    if arguments.logical_devices is not None:
        _split_cpu(arguments.logical_devices, config.training.strategy)
    train(config, arguments.resume)


if __name__ == "__main__":
    run(main)
