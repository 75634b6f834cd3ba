import json
import os
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from support import foreign
from support.forked import run_command
from support.models import ROOT, make_workspace
from support.runs import metrics, same_but_for_time
from support.servers import run_here

from simcse_tf import SimCSE
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.evaluation import geometry, sts
from simcse_tf.train import main
from simcse_tf.training import callbacks, run_start
from simcse_tf.training.config import load_config
from simcse_tf.training.optimizer import LinearDecay
from simcse_tf.training.progress import Progress, load_state

# What `evaluation.geometry_every` adds to the log.
GEOMETRY = {"alignment", "uniformity"}


def run(*arguments, cwd=ROOT):
    return run_command("simcse_tf.train", *arguments, cwd=cwd)


@pytest.fixture
def workspace(tmp_path, tiny_preset):
    return make_workspace(tmp_path, tiny_preset)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_preset):
    """A workspace with a whole run, and what it printed."""
    workspace = make_workspace(tmp_path_factory.mktemp("whole"), tiny_preset)
    return workspace, train(workspace).stdout


@pytest.fixture(scope="module")
def measured(finished):
    """The same run, which also measures geometry and leaves the test out."""
    settings = "evaluation.geometry_every=4", "evaluation.test=false"
    train(finished[0], *settings, "output_dir=measured")
    return finished[0] / "measured"


@pytest.fixture(scope="module")
def short_run(tmp_path_factory, tiny_preset):
    """A workspace with a run of two steps without evaluation data, of another seed."""
    workspace = make_workspace(tmp_path_factory.mktemp("short"), tiny_preset)
    train(workspace, "data.seed=1", "training.max_steps=2", "data.evaluation=null")
    return workspace


def train(workspace, *overrides, flags=()):
    done = run(
        "--config", "config.json", "--set", "data.seed=42", *overrides, *flags,
        cwd=workspace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_a_run_writes_config_metrics_models_and_scores(finished):
    workspace, printed = finished
    out = workspace / "run"
    assert sorted(os.listdir(out)) == [
        "best", "checkpoints", "config.json", "last", "metrics.jsonl", "tensorboard",
        "test.json",
    ]  # fmt: skip
    assert "train.txt: 25 sentences; 1 rows with a blank text left out" in printed
    assert "25 sentences; 3 steps an epoch, 6 in all" in printed
    assert "STS-B" in printed
    written = json.loads((out / "config.json").read_text())
    assert written["objective"]["temperature"] == 0.05

    lines = metrics(out)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    rates = [1e-3 * (6 - step) / 6 for step in range(6)]
    np.testing.assert_allclose([line["learning_rate"] for line in lines], rates, 1e-5)
    assert all(line["loss"] > 0 and line["examples_per_second"] > 0 for line in lines)
    evaluated = [line["step"] for line in lines if "dev_STSBenchmark" in line]
    assert evaluated == [2, 4, 6]

    assert set(json.loads((out / "test.json").read_text())) == {"STSBenchmark", "avg"}
    assert SimCSE.from_preset(str(out / "last")).max_length == 32

    best = SimCSE.from_preset(str(out / "best"))
    top = max(line.get("dev_STSBenchmark", -100) for line in lines)
    senteval = workspace / "senteval"
    found = sts.evaluate_sts(ModelEncoder(best), senteval, ["STSBenchmark"], "dev")
    assert found["STSBenchmark"] == pytest.approx(top, abs=1e-6)
    assert f"{top:.2f} on dev" in printed


@pytest.mark.slow
def test_the_same_seeds_give_the_same_run_and_others_another(
    finished, measured, short_run
):
    """Measuring along the way changes nothing; another order of the data does."""
    one, same = (
        [
            {key: value for key, value in line.items() if key not in GEOMETRY}
            for line in same_but_for_time(metrics(run))
        ]
        for run in (finished[0] / "run", measured)
    )
    assert one == same
    assert one[0]["loss"] != metrics(short_run / "run")[0]["loss"]


@pytest.mark.slow
def test_resuming_needs_a_run_of_the_same_config(short_run):
    arguments = ["--config", "config.json", "--resume", "--set", "data.seed=1"]
    done = run(*arguments, "output_dir=other", cwd=short_run)
    assert_mistake(done, "output_dir other holds no run to resume")
    done = run(*arguments, "training.batch_size=4", cwd=short_run)
    assert_mistake(done, r"training\.batch_size was 8 and is 4: that is another run")


def test_a_run_is_never_overwritten(short_run):
    before = (short_run / "run" / "metrics.jsonl").read_text()
    done = run("--config", "config.json", cwd=short_run)
    assert_mistake(done, "output_dir run holds a run already: pass --resume")
    assert (short_run / "run" / "metrics.jsonl").read_text() == before


def test_without_evaluation_data_the_last_model_is_the_best(short_run):
    out = short_run / "run"
    best, last = (SimCSE.from_preset(str(out / name)) for name in ("best", "last"))
    for one, other in zip(best.trainable_weights, last.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (out / "test.json").exists()


@pytest.mark.slow
def test_how_a_foreign_model_is_read_is_said_before_it_is_trained(tmp_path):
    checkpoints = foreign.unpack(tmp_path / "foreign")
    preset = checkpoints.arguments("6/bert/mean")["preset"]
    done = train(
        make_workspace(tmp_path, preset),
        "training.max_steps=1",
        "data.evaluation=null",
    )

    [line] = [line for line in done.stderr.splitlines() if preset in line]
    assert "cls pooling with the head" in line
    assert "its mean pooling replaced, 32 tokens" in line


def test_max_steps_also_sets_the_length_of_the_schedule(short_run):
    rates = [line["learning_rate"] for line in metrics(short_run / "run")]
    np.testing.assert_allclose(rates, [1e-3, 5e-4], rtol=1e-5)


@pytest.mark.slow
def test_geometry_is_logged_from_the_first_step_on_and_the_test_can_be_left_out(
    finished, measured
):
    lines = metrics(measured)
    assert [line["step"] for line in lines if "alignment" in line] == [1, 4, 6]
    model = SimCSE.from_preset(str(measured / "last"))
    pairs = sts.load_task(finished[0] / "senteval", "STSBenchmark", "dev")
    found = geometry.stsb_geometry(ModelEncoder(model), pairs)
    assert lines[-1]["alignment"] == pytest.approx(found["alignment"], abs=1e-5)
    assert lines[-1]["uniformity"] == pytest.approx(found["uniformity"], abs=1e-5)
    assert not (measured / "test.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "examples"),
    [
        (["objective.kind=next_sentence", "model.encoders=dual"], "23 pairs"),
        pytest.param(
            ["data.augmentation=word_deletion"], "25 pairs", marks=pytest.mark.attack
        ),
    ],
)
def test_the_papers_baselines_train_from_a_config(workspace, overrides, examples):
    done = train(workspace, *overrides, "training.max_steps=2", "data.evaluation=null")
    assert examples in done.stdout
    assert len(metrics(workspace / "run")) == 2


def test_the_log_tells_the_loss_scale_and_the_steps_it_skipped():
    weight = keras.Variable([1.0])
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(LinearDecay(1.0, total_steps=4)),
        initial_scale=8.0,
    )
    optimizer.build([weight])
    clock = callbacks.StepClock(Progress(), batch_size=2)
    clock.set_model(SimpleNamespace(optimizer=optimizer))
    seen = []
    for gradient in (8.0, np.inf, 8.0):
        logs = {}
        clock.on_train_batch_begin(0)
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
        clock.on_train_batch_end(0, logs)
        names = "learning_rate", "loss_scale", "skipped_steps"
        seen.append([logs[name] for name in names])
    assert seen == [[1.0, 8.0, 0], [0.75, 4.0, 1], [0.75, 4.0, 1]]
    assert clock.progress.step == 3


@pytest.mark.slow
def test_replicas_on_logical_devices_give_the_run_of_one_device(workspace):
    same = ["training.max_steps=4", "model.dropout=0.0", "data.evaluation=null"]
    train(workspace, *same, "output_dir=one")
    train(
        workspace, *same, "output_dir=two", "training.strategy=mirrored",
        flags=["--logical-devices", 2],
    )  # fmt: skip
    one, two = metrics(workspace / "one"), metrics(workspace / "two")
    for key in ("loss", "learning_rate"):
        expected = [line[key] for line in one]
        np.testing.assert_allclose([line[key] for line in two], expected, rtol=1e-3)
    # Its checkpoint holds what one device's does: it resumes there.
    states = [load_state(str(workspace / name)) for name in ("one", "two")]
    shapes = [{key: array.shape for key, array in it.items()} for it in states]
    assert shapes[0] == shapes[1]
    config = load_config(
        str(workspace / "config.json"), ["data.seed=42", *same, "output_dir=two"]
    )
    run_start.check(workspace / "two", config, resume=True)


BAD_FILES = {
    "empty.txt": b"",
    "blank.txt": b"\n\n",
    "latin1.txt": b"fine\ncaf\xe9\n",
    "columns.csv": b"sent0,sent1,hard_neg\na,b,c\nd,e\n",
    "header.csv": b"premise,hypothesis\na,b\n",
    "short.txt": b"one\ntwo\nthree\n",
}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train=missing.txt"], "cannot read missing.txt: No such file"),
        (["data.train=empty.txt"], "empty.txt is empty"),
        (["data.train=blank.txt"], "blank.txt is empty"),
        (["data.train=latin1.txt"], "latin1.txt, line 2: not valid UTF-8"),
        (["data.train=columns.csv"], "columns.csv, line 3: expected 3 columns, rec"),
        (["data.train=header.csv"], "header.csv, line 1: expected the columns"),
        (["data.train=short.txt"], "3 examples, fewer than one batch .*batch_size 8"),
        (["data.train=train.doc"], "train.doc: expected a .txt, .csv"),
        (["data.evaluation=nowhere"], "data.evaluation: expected a SentEval directory"),
        (["model.preset=nowhere"], "no model 'nowhere'"),
        (["model.max_length=65"], "max_length must be between 2 and 64"),
        (["training.batch_size=0"], "training.batch_size: expected"),
        (["training.bach_size=8"], "unknown key training.bach_size"),
        (
            [
                "training.strategy=mirrored",
                "training.batch_size=7",
                "--logical-devices=2",
            ],
            "training.batch_size: expected a multiple of the 2 replicas, received 7",
        ),
        (
            [
                "training.strategy=mirrored",
                "training.micro_batch_size=3",
                "--logical-devices=2",
            ],
            "micro_batch_size: expected a divisor of a replica's batch of 4, received",
        ),
        (["output_dir=x", "--logical-devices=0"], "--logical-devices: expected 1 or"),
        (
            ["training.strategy=multi_worker", "--logical-devices=2"],
            "--logical-devices: multi_worker takes one CPU device of each worker",
        ),
        (["training.strategy=multi_worker"], "expected the .* TF_CONFIG to be like"),
        (["training.strategy=tpu"], "training: tpu names the TPU .* tpu null with"),
        (["training.tpu=local"], 'training: tpu names the TPU .* tpu "local" with str'),
        (["output_dir=train.txt"], "output_dir train.txt: train.txt is not a writable"),
        (["output_dir=train.txt/x"], "output_dir .*: .*train.txt is not a writable"),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing(
    workspace, overrides, message, monkeypatch, capsys
):
    for name, content in BAD_FILES.items():
        (workspace / name).write_bytes(content)
    before = sorted(os.listdir(workspace))
    arguments = ["--config", "config.json", "--set", *overrides]
    if any(each.startswith("--logical-devices") for each in overrides):
        # TensorFlow has started here, and has its devices.
        done = run(*arguments, cwd=workspace)
    else:
        monkeypatch.chdir(workspace)
        done = run_here(main, capsys, *arguments)
    assert_mistake(done, message)
    assert sorted(os.listdir(workspace)) == before


def assert_mistake(done, message):
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert re.search(message, line), line


@pytest.mark.slow
def test_lora_trains_a_small_share_and_saves_ordinary_models(workspace):
    done = train(
        workspace,
        "training.lora_rank=2",
        "training.strategy=mirrored",
        "training.max_steps=4",
        flags=["--logical-devices", "2"],
    )
    assert "LoRA of rank 2: 6 of 33 variables are trained, 432 of " in done.stdout
    out = workspace / "run"
    assert len(metrics(out)) == 4
    best, last = (SimCSE.from_preset(str(out / name)) for name in ("best", "last"))
    before = SimCSE.from_preset(
        json.loads((out / "config.json").read_text())["model"]["preset"]
    )
    assert len(best.weights) == len(last.weights) == len(before.weights)
    done = run(
        "--config", "config.json", "--resume", "--set", "training.lora_rank=4",
        "training.strategy=mirrored", "training.max_steps=4", cwd=workspace,
    )  # fmt: skip
    assert_mistake(done, r"training\.lora_rank was 2 and is 4: that is another run")
