"""Runs whose numbers stop being finite: exit code 77, and what is left of them."""

import functools
import json
import math
import os
import re
import shutil

import keras
import numpy as np
import pytest
from support.forked import start_script
from support.models import make_preset, make_workspace
from support.runs import metrics, same_but_for_time

from simcse_tf import SimCSE
from simcse_tf.core.errors import Diverged, NotFinite, Stopped, UserError
from simcse_tf.training import callbacks, checkpoint, divergence
from simcse_tf.training.checkpoint import Progress
from simcse_tf.training.divergence import Guard, LossWatch
from simcse_tf.training.evaluation import DevEvaluation

# One number becomes NaN before a step, as a broken device would leave it.
POISON = """
import numpy as np
from simcse_tf.training.callbacks import StepClock
begin = StepClock.on_train_batch_begin
def poisoned(self, batch, logs=None):
    begin(self, batch, logs)
    if self.progress.step + 1 == {step}:
        one = next(v for v in self.model.weights if v.path.endswith("{name}"))
        values = np.array(one)
        values.flat[-1] = np.nan
        one.assign(values)
StepClock.on_train_batch_begin = poisoned
"""
LEARNING_RATE = """
from simcse_tf.training import optimizer
from simcse_tf.training import run
run.adam = lambda rate, *others: optimizer.adam({rate}, *others)
"""
TRAIN = """
from simcse_tf import train
from simcse_tf.core import cli
cli.run(train.main)
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Data and a config of 6 steps; evaluation after every other, checkpoint after 4.

    A short vocabulary and batches of one length keep the processes quick.
    """
    directory = tmp_path_factory.mktemp("divergence")
    make_workspace(directory, make_preset(directory / "preset", 1, tokens=3000))
    config = json.loads((directory / "config.json").read_text())
    config["model"]["max_length"] = 8
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def train(workspace, output, *overrides, fault="", flags=()):
    """The exit code of a run, the last line of its stderr, and its stdout."""
    overrides = ["--set", f"output_dir={output}", *overrides]
    arguments = ["--config", "config.json", *flags, *overrides]
    process = start_script(fault + TRAIN, *arguments, cwd=workspace)
    stdout, stderr = process.communicate()
    return process.returncode, (stderr.splitlines() or [""])[-1], stdout


def assert_finite(run):
    """Nothing that the run has left holds NaN; every line of its log is JSON."""
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    for model in ("best", "last"):
        if (run / model).exists():
            SimCSE.from_preset(str(run / model))
    if (run / "last").exists():
        with np.load(run / "last" / "training_state.npz") as saved:
            arrays = [saved[name] for name in saved.files if name != "progress"]
        assert all(np.isfinite(array).all() for array in arrays)


# The fault, config overrides, the step that ends the run, what the line says, and what
# the run leaves beside its config and its logs.
WAYS = {
    "rate": (
        LEARNING_RATE.format(rate=1e30),
        [],
        2,
        "the loss is nan, and training.learning_rate .*; there is no checkpoint yet",
        set(),
    ),
    # In a row of the embeddings that no step reads: the loss stays finite.
    "weights": (
        POISON.format(step=5, name="token_embedding/embeddings"),
        [],
        6,
        "the weights: .* token_embedding/embeddings .*; weights/last .* of step 4",
        {"best", "checkpoints", "last"},
    ),
    "scale": (
        "",
        ["training.precision=mixed_float16", "objective.temperature=0.0001"],
        6,
        "6 of 6 steps were skipped; mixed_float16 overflows: set training.precision",
        {"best", "checkpoints", "last"},
    ),
}


@pytest.fixture(scope="module")
def diverged(workspace):
    """Function from a way to diverge to the exit code and the last line of stderr."""
    return functools.cache(
        lambda way: train(workspace, way, *WAYS[way][1], fault=WAYS[way][0])[:2]
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_diverges_ends_with_77_and_leaves_only_what_is_finite(
    workspace, diverged, way
):
    _, _, step, message, left = WAYS[way]
    code, line = diverged(way)
    assert code == 77
    assert re.match(f"error: diverged at step {step}: {message}", line), line
    logs = {"config.json", "metrics.jsonl", "tensorboard"}
    assert set(os.listdir(workspace / way)) == logs | left
    assert metrics(workspace / way)[-1]["step"] == step
    assert_finite(workspace / way)


@pytest.mark.slow
def test_after_77_a_run_resumes_from_its_last_finite_checkpoint_to_the_same_end(
    workspace, diverged
):
    """The fault was one of the machine, and does not come again."""
    assert diverged("weights")[0] == 77
    shutil.copytree(workspace / "weights", workspace / "resumed", symlinks=True)
    code, _, stdout = train(workspace, "resumed", flags=["--resume"])
    assert code == 0
    assert "resuming after step 4" in stdout
    assert train(workspace, "whole")[0] == 0
    resumed, whole = (metrics(workspace / name) for name in ("resumed", "whole"))
    assert same_but_for_time(resumed) == same_but_for_time(whole)


def watched(logs, step=1, last_step=10):
    """What `LossWatch` finds in a step's logs."""
    guard = Guard([LossWatch(Progress(step), last_step)])
    guard.on_train_batch_end(0, logs)
    return str(guard.trouble) if guard.trouble else None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_trouble(loss):
    assert watched({"loss": np.float32(loss)}).startswith(f"the loss is {loss}, and")
    assert watched({"loss": np.float32(1e38)}) is None


def scaled(scale, skipped):
    return {"loss": math.nan, "loss_scale": scale, "skipped_steps": skipped}


def test_steps_that_loss_scaling_skips_are_normal_until_the_scale_is_too_small():
    assert watched(scaled(2.0**-10, 26), step=26, last_step=1000) is None
    trouble = watched(scaled(2.0**-11, 27), step=5000, last_step=9000)
    assert trouble.startswith("the loss scale fell to 0.00049, 27 of 5000 steps were")
    assert "mixed_bfloat16" in trouble


@pytest.mark.parametrize("skipped", [0, 5, 6, 10])
def test_a_run_that_skipped_most_of_its_steps_has_diverged_at_its_end(skipped):
    logs = scaled(1.0, skipped)
    assert watched(logs, step=9) is None
    assert bool(watched(logs, step=10)) == (skipped > 5)


def test_a_guard_runs_no_callback_after_trouble():
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise AssertionError

    guard = Guard([LossWatch(Progress(1), 10), Fails()])
    guard.on_train_batch_end(0, {"loss": math.nan})
    assert isinstance(guard.trouble, NotFinite)


class Sound(keras.Model):
    def __init__(self, value=1.0):
        super().__init__()
        self.one = self.add_weight(shape=(3,), name="one")
        self.one.assign([1.0, value, 1.0])
        self.compile("adam")
        self.optimizer.build([self.one])


def saving(model, stop=False, trouble=None):
    """A `Checkpoint` of a worker that writes nothing, after step 3 of 10."""
    guard = Guard([])
    guard.trouble = trouble
    save = callbacks.Checkpoint(None, 1, lambda: stop, guard, Progress(3), 5, 10)
    save.set_model(model)
    save.on_train_batch_end(0)


def test_weights_are_checked_before_a_run_is_saved_because_of_sigterm():
    with pytest.raises(Stopped):
        saving(Sound(), stop=True)
    with pytest.raises(Diverged, match="^diverged at step 3: the weights: .*/one hold"):
        saving(Sound(math.nan), stop=True)


@pytest.mark.parametrize("stop", [False, True])
def test_trouble_comes_before_sigterm(stop):
    with pytest.raises(Diverged, match="^diverged at step 3: the loss is nan$"):
        saving(Sound(), stop=stop, trouble=NotFinite("the loss is nan"))


def test_all_workers_stop_at_the_step_at_which_one_has_trouble(monkeypatch):
    monkeypatch.setattr(callbacks, "every_worker", lambda value: [value, 3])
    with pytest.raises(Diverged, match="^diverged at step 3: another worker's line"):
        saving(Sound())


class Evaluated:
    """`DevEvaluation` of a run without a model: which step is the best."""

    def __init__(self, run, monkeypatch):
        self.progress, self.run = Progress(), run
        monkeypatch.setattr(checkpoint, "_write_model", lambda model, path: None)

    def score(self, value):
        self.progress.step += 1
        scores = {"STSBenchmark": value, "avg": value}
        evaluation = DevEvaluation(
            lambda model: scores, "avg", None, str(self.run), self.progress, 1, 10
        )
        evaluation.set_model(Sound())
        evaluation.on_train_batch_end(0, {})
        return json.loads((self.run / "best" / "dev.json").read_text())


def test_an_undefined_dev_score_is_the_worst(tmp_path, monkeypatch, capsys):
    evaluated = Evaluated(tmp_path, monkeypatch)
    assert evaluated.score(math.nan) == {"step": 1}
    assert "step 1: the dev score is undefined" in capsys.readouterr().err
    assert evaluated.score(math.nan) == {"step": 1}
    assert evaluated.score(-79.0)["step"] == 3
    assert evaluated.score(math.nan)["step"] == 3
    assert evaluated.score(-79.0)["step"] == 3
    assert evaluated.score(0.0)["step"] == 6


def test_a_log_holds_null_for_what_is_not_finite(tmp_path):
    progress = Progress(1)
    log = callbacks.RunLog(str(tmp_path), progress)
    log.on_train_batch_end(0, {"loss": math.nan, "dev_avg": math.inf, "x": 1.0})
    log.close()
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert line == '{"step": 1, "loss": null, "dev_avg": null, "x": 1.0}'


def test_a_checkpoint_with_nan_is_not_resumed_from(tmp_path):
    """As versions before this one wrote them."""
    run, model = str(tmp_path), Sound(math.nan)
    directory = tmp_path / "checkpoints" / "step-00000001"
    directory.mkdir(parents=True)
    (tmp_path / "last").symlink_to(directory)
    arrays = {name: v.numpy() for name, v in checkpoint._variables(model)}
    np.savez(directory / "training_state.npz", progress='{"step": 1}', **arrays)
    with pytest.raises(
        UserError, match="--resume: .*/last holds NaN .*begin a new run"
    ):
        checkpoint.restore(run, model)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_variable_that_is_not_finite_is_named(value):
    divergence.check_weights(Sound())
    with pytest.raises(
        NotFinite, match="the weights: expected .*/one holds NaN or inf"
    ):
        divergence.check_weights(Sound(value))
    model = Sound()
    model.optimizer.variables[-1].assign([0.0, 0.0, value])
    with pytest.raises(NotFinite, match="the optimizer's state: .*velocity holds NaN"):
        divergence.check_weights(model)
