"""What a run survives: kills at any moment, SIGTERM, a full disk."""

import functools
import importlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from support.models import SENTENCES, benchmark, make_preset, make_workspace
from support.runs import metrics, same_but_for_time

from simcse_tf import train
from simcse_tf.core import cli
from simcse_tf.core.atomic import clean_up
from simcse_tf.core.errors import UserError
from simcse_tf.training import callbacks, checkpoint, run_start
from simcse_tf.training.config import load_config
from simcse_tf.training.progress import Progress
from simcse_tf.training.run import build_model
from simcse_tf.training.run_directory import RunDirectory

pytestmark = pytest.mark.slow

# Every run is a process of its own; forking them from one that has imported
# TensorFlow, and not used it, saves most of a start.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "simcse_tf.train",
        "simcse_tf.training.run",
        "scipy.stats",
    ]
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Data and a config of 18 steps, 3 an epoch, whose best model changes.

    A short vocabulary and batches of one length keep the processes quick.
    """
    directory = tmp_path_factory.mktemp("faults")
    make_workspace(directory, make_preset(directory / "preset", 1, tokens=3000))
    scored = [(i % 5, SENTENCES[i % 8], SENTENCES[i * 3 % 7]) for i in range(20)]
    dev = directory / "senteval" / "STS" / "STSBenchmark" / "sts-dev.csv"
    dev.write_text(benchmark(scored, "dev"))
    config = json.loads((directory / "config.json").read_text())
    config["model"]["max_length"] = 8
    config["training"] |= {
        "epochs": 6,
        "learning_rate": 3e-3,
        "evaluate_every": 3,
        "checkpoint_every": 2,
        "keep": 2,
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module")
def whole(whole_and_refused):
    """A run that nothing interrupts."""
    return whole_and_refused[0]


@pytest.fixture(scope="module")
def whole_and_refused(workspace):
    """That run, and what two others said that were to be the same one meanwhile."""
    run, refused = workspace / "whole", []
    first = start(workspace, run.name)
    wait_for_step(first, run, 1)
    for flags in ([], ["--resume"]):
        assert ended(start(workspace, run.name, *flags)) == 2
        refused.append((workspace / "stderr").read_text().splitlines()[-1])
    assert ended(first) == 0
    holder = f"(process {first.pid} on "
    return run, holder, refused


def nothing():
    pass


def start(workspace, output, *arguments, fault=nothing):
    arguments = ["--config", "config.json", *arguments]
    if "--set" not in arguments:
        arguments.append("--set")
    arguments.append(f"output_dir={output}")
    process = PROCESSES.Process(target=_train, args=(workspace, arguments, fault))
    process.start()
    return process


def _train(workspace, arguments, fault):
    os.chdir(workspace)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["simcse_tf.train", *arguments]
    fault()
    cli.run(train.main)


def ended(process):
    process.join(timeout=120)
    return process.exitcode


# Beside opening a file of the run, what Python does to files under `atomic_...`.
FILE_EVENTS = {
    "os.chmod",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
}


def die_writing(run, count):
    """Kills this process before the run's nth operation on its files."""
    operations = itertools.count(1)

    def watch(event, arguments):
        ours = event == "open" and str(arguments[0]).startswith(f"{run}/")
        if (ours or event in FILE_EVENTS) and next(operations) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def wait_for_step(process, run, step):
    """Waits until a step has been logged, or the process has ended."""
    log = run / "metrics.jsonl"
    while process.is_alive():
        if log.is_file() and f'{{"step": {step},' in log.read_text():
            return
        time.sleep(0.005)


def saved_step(run):
    """The step of the checkpoint, which must be whole."""
    if not (run / "last").is_symlink():
        return 0
    with np.load(run / "last" / "training_state.npz") as saved:
        for name in saved.files:
            saved[name]
        return json.loads(str(saved["progress"]))["step"]


def assert_same_run(run, expected):
    assert same_but_for_time(metrics(run)) == same_but_for_time(metrics(expected))
    for name in ("best", "last"):
        assert contents(run / name) == contents(expected / name)
    for name in ("test.json", "best/dev.json"):
        assert (run / name).read_text() == (expected / name).read_text()


def contents(directory):
    """The bytes of every array in a directory."""
    found = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()].tobytes()

    with h5py.File(directory / "model.weights.h5") as file:
        file.visititems(add)
    found["head"] = (directory / "head.safetensors").read_bytes()
    if (directory / "training_state.npz").exists():
        with np.load(directory / "training_state.npz") as arrays:
            found |= {name: arrays[name].tobytes() for name in arrays.files}
    return found


@pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.attack)])
def test_kills_leave_the_run_that_nothing_interrupts(workspace, whole, kills):
    """Half come from outside at random times, half amid the run's own writing."""
    chance, run = random.Random(3), workspace / "killed"
    half_written, saved = 0, []
    for kill in range(kills):
        resume = ["--resume"] if (run / "config.json").exists() else []
        if kill % 2:
            fault = functools.partial(die_writing, "killed", chance.randint(1, 100))
            process = start(workspace, "killed", *resume, fault=fault)
        else:
            process = start(workspace, "killed", *resume)
            step = (saved[-1] if saved else 0) + chance.randint(1, 2)
            wait_for_step(process, run, step)
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
        assert ended(process) == -signal.SIGKILL
        half_written += any(run.rglob(".*.new-*"))
        saved.append(saved_step(run))
    assert saved == sorted(saved)
    assert half_written >= kills // 3
    assert ended(start(workspace, "killed", "--resume")) == 0
    assert_same_run(run, whole)
    assert sorted(os.listdir(run)) == sorted(os.listdir(whole))
    assert not list(run.rglob(".*"))
    assert sorted(os.listdir(run / "checkpoints")) == ["step-00000016", "step-00000018"]


class StubModel:
    """What saving takes of a model."""

    weights = variables = trainable_variables = metrics_variables = ()
    optimizer = SimpleNamespace(built=True, variables=())

    def __init__(self, text):
        self.text = text


def write_stub(model, directory):
    (directory / "model").write_text(model.text)


def save_and_die(run, count):
    """Saves step 2 in a process that is killed before its nth file operation."""
    child = os.fork()
    if child == 0:
        die_writing(run, count)
        save_stub(run, 2)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def save_stub(run, step):
    model = StubModel(f"step {step}")
    checkpoint.save_best(str(run), model, {"step": step, "avg": 50.0})
    checkpoint.save(str(run), model, Progress(step))


def test_a_kill_before_any_file_operation_leaves_a_whole_checkpoint(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "write_preset", write_stub)
    for moment in itertools.count(1):
        run = tmp_path / str(moment)
        save_stub(run, 1)
        outcome = save_and_die(run, moment)
        assert (run / "last" / "model").read_text() == f"step {saved_step(run)}"
        assert saved_step(run) in (1, 2)
        scores = RunDirectory(run).dev_scores
        assert (run / "best" / "model").read_text() == f"step {scores['step']}"
        for directory in (run, run / "checkpoints"):
            clean_up(directory)
        save_stub(run, 2)
        assert not list(run.rglob(".*"))
        assert os.listdir(run / "checkpoints") == ["step-00000002"]
        if outcome == 0:
            break
    assert moment > 30


def terminate_in(module, name, number=signal.SIGTERM):
    """Sends a signal to this process when a function is called."""
    module = importlib.import_module(module)
    function = getattr(module, name)

    def terminated(*arguments, **options):
        os.kill(os.getpid(), number)
        return function(*arguments, **options)

    setattr(module, name, terminated)


IN_EVALUATION = functools.partial(
    terminate_in, "simcse_tf.evaluation.sts", "evaluate_pairs", signal.SIGHUP
)
IN_LOADING = functools.partial(terminate_in, "simcse_tf.training.run", "build_model")
IN_FINAL_EVALUATION = functools.partial(
    terminate_in, "simcse_tf.training.evaluation", "load_encoder"
)


def assert_stopped(workspace, run, name):
    reading, line = (workspace / "stderr").read_text().splitlines()
    assert " read as: " in reading
    step = metrics(run)[-1]["step"]
    assert line == f"stopped by {name} after step {step}: pass --resume to resume"
    assert saved_step(run) == step
    return step


def test_sigterm_saves_the_step_and_exits_with_a_code_of_its_own(workspace, whole):
    """SIGHUP too. Before the first step and after the last one nothing is lost."""
    run = workspace / "stopped"
    assert ended(start(workspace, "stopped", fault=IN_LOADING)) == 75
    [line] = (workspace / "stderr").read_text().splitlines()
    assert line == "stopped by SIGTERM: the same command begins anew"
    assert not run.exists()

    assert ended(start(workspace, "stopped", fault=IN_EVALUATION)) == 75
    assert assert_stopped(workspace, run, "SIGHUP") == 3
    assert "dev_avg" in metrics(run)[-1]

    process = start(workspace, "stopped", "--resume")
    wait_for_step(process, run, 7)
    process.terminate()
    assert ended(process) == 75
    assert 7 <= assert_stopped(workspace, run, "SIGTERM") < 18

    process = start(workspace, "stopped", "--resume", fault=IN_FINAL_EVALUATION)
    assert ended(process) == 75
    line = (workspace / "stderr").read_text().splitlines()[-1]
    assert line == "stopped by SIGTERM: pass --resume to resume"
    assert saved_step(run) == 18
    assert not (run / "test.json").exists()

    assert ended(start(workspace, "stopped", "--resume")) == 0
    assert_same_run(run, whole)


def limit_files(size):
    """What the kernel does from now on is what it does on a full disk."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))


def fill_disk_after_a_checkpoint():
    def watch(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith("/last"):
            limit_files(20_000)

    sys.addaudithook(watch)


def test_two_processes_do_not_share_a_run(whole_and_refused):
    """The others of these tests go on to the end of the one that was not disturbed."""
    run, holder, refused = whole_and_refused
    for line in refused:
        assert "another process trains there: wait for its end, or" in line
        assert holder in line
    assert len(metrics(run)) == 18


def cut_data_after_a_checkpoint():
    def watch(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith("/last"):
            os.truncate("own.txt", 40)

    sys.addaudithook(watch)


def test_data_that_are_cut_are_one_line_and_the_run_goes_on_later(workspace, whole):
    run, data = workspace / "cut", ["--set", "data.train=own.txt"]
    shutil.copy(workspace / "train.txt", workspace / "own.txt")
    fault = cut_data_after_a_checkpoint
    assert ended(start(workspace, "cut", *data, fault=fault)) == 2
    line = (workspace / "stderr").read_text().splitlines()[-1]
    assert line.startswith("error: own.txt was changed while it was in use: put back")
    assert saved_step(run) == 2

    shutil.copy(workspace / "train.txt", workspace / "own.txt")
    assert ended(start(workspace, "cut", "--resume", *data)) == 0
    assert_same_run(run, whole)


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_later(workspace, whole):
    run = workspace / "full"
    assert ended(start(workspace, "full", fault=fill_disk_after_a_checkpoint)) == 2
    reading, line = (workspace / "stderr").read_text().splitlines()
    assert " read as: " in reading
    assert line == (
        "error: cannot write full/best: File too large; what was saved before is "
        "whole, and --resume continues from it"
    )
    assert not list(run.rglob(".*"))
    assert saved_step(run) == 2
    assert ended(start(workspace, "full", "--resume")) == 0
    assert_same_run(run, whole)


@pytest.fixture
def small_files():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit_files(500)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_config_that_cannot_be_written_is_told(tmp_path, workspace, small_files):
    config = load_config(str(workspace / "config.json"))
    with pytest.raises(UserError, match="cannot write .*run: File too large; what"):
        run_start.begin(tmp_path / "run", config)
    assert os.listdir(tmp_path / "run") == []


# TensorBoard's events are larger than what they hold; without values there are none.
@pytest.mark.parametrize(
    ("full", "logs"), [("metrics.jsonl", {}), ("tensorboard", {"loss": 1.0})]
)
def test_a_log_that_cannot_be_written_is_told(tmp_path, small_files, full, logs):
    progress = Progress()
    with (
        pytest.raises(UserError, match=f"cannot write .*{full}: File too large; what"),
        closing(callbacks.RunLog(str(tmp_path), progress)) as log,
    ):
        for progress.step in range(1, 100):
            log.on_train_batch_end(0, logs)


def test_a_resumed_log_drops_later_steps_and_half_a_line(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    callbacks.RunLog(str(tmp_path), Progress(step=2)).close()
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_what_a_user_puts_beside_a_runs_files_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write_preset", write_stub)
    run, others = tmp_path / "run", [
        "checkpoints/step-00000001.bak",
        "checkpoints/step-1",
        "checkpoints/my-step-00000001",
        "checkpoints/.step-00000001.old",
        ".best.new-2024",
        ".notes.old",
    ]  # fmt: skip
    for name in others:
        (run / name).mkdir(parents=True)
        (run / name / "file").touch()
    (run / "checkpoints" / "step-00000001").touch()
    save_stub(run, 2)
    for directory in (run, run / "checkpoints"):
        clean_up(directory)
    save_stub(run, 3)
    assert all((run / name / "file").exists() for name in others)
    assert (run / "checkpoints" / "step-00000001").is_file()
    assert (run / "last").readlink().name == "step-00000003"
    assert not (run / "checkpoints" / "step-00000002").exists()


def test_a_finished_run_goes_on_when_there_are_more_epochs(workspace, whole):
    shutil.copytree(whole, workspace / "longer", symlinks=True)
    arguments = ["--resume", "--set", "training.epochs=7"]
    assert ended(start(workspace, "longer", *arguments)) == 0
    lines = metrics(workspace / "longer")
    assert same_but_for_time(lines)[:18] == same_but_for_time(metrics(whole))
    rates = [line["learning_rate"] for line in lines[18:]]
    np.testing.assert_allclose(rates, [3e-3 * left / 21 for left in (3, 2, 1)], 1e-5)


def test_other_training_data_is_another_run(workspace, whole):
    (workspace / "more.txt").write_text("\n".join(SENTENCES * 4))
    arguments = ["--resume", "--set", "data.train=more.txt"]
    assert ended(start(workspace, "whole", *arguments)) == 2
    [line] = (workspace / "stderr").read_text().splitlines()
    assert (
        "data.train more.txt holds 32 examples, and held 25 examples when the run began"
        in line
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.pooling", "avg"),
        ("training.learning_rate", 1.0),
        ("training.precision", "mixed_bfloat16"),
        ("data.seed", 1),
    ],
)
def test_a_key_that_decides_the_steps_may_not_change(workspace, whole, key, value):
    path = str(workspace / "config.json")
    begun = f"{key} was .* and is {value!r}.*what may change is output_dir, data.train"
    with pytest.raises(UserError, match=begun):
        run_start.check(whole, load_config(path, [f"{key}={value}"]), resume=True)


def test_a_checkpoint_of_another_model_is_told(workspace, whole):
    path = str(workspace / "config.json")
    config = load_config(path, ["model.pooling=avg"])
    model = build_model(config, 18)
    with pytest.raises(UserError, match="last is the checkpoint of another model"):
        checkpoint.restore(str(whole), model)


def test_another_vocabulary_of_the_same_size_is_told(workspace, whole):
    shutil.copytree(workspace / "preset", workspace / "other", dirs_exist_ok=True)
    vocabulary = workspace / "other" / "assets" / "tokenizer" / "vocabulary.txt"
    *tokens, last = vocabulary.read_text().splitlines()
    vocabulary.write_text("\n".join([*tokens[:-1], last, tokens[-1]]) + "\n")
    path = str(workspace / "config.json")
    model = build_model(load_config(path, [f"model.preset={workspace / 'other'}"]), 18)
    with pytest.raises(UserError, match="model.preset has another tokenizer than"):
        checkpoint.restore(str(whole), model)


def test_a_checkpoint_holds_the_loss_scale(tmp_path, workspace):
    path = str(workspace / "config.json")
    config = load_config(path, ["training.precision=mixed_float16"])
    config.model.preset = str(workspace / "preset")
    model = build_model(config, 18)
    for step, scale in ((1, 32.0), (2, 64.0)):
        model.optimizer.dynamic_scale.assign(scale)
        checkpoint.save(str(tmp_path), model, Progress(step))
        assert float(model.optimizer.dynamic_scale) == scale
    other = build_model(config, 18)
    checkpoint.restore(str(tmp_path), other)
    assert float(other.optimizer.dynamic_scale) == 64.0
