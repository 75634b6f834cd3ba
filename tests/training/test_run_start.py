"""Where a run may begin or resume: one process, one config, the same data."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.models import SENTENCES, make_workspace
from support.runs import state_of, write_run

from simcse_tf import train
from simcse_tf.core.errors import UserError
from simcse_tf.core.locks import locked
from simcse_tf.training import run_start
from simcse_tf.training.config import load_config
from simcse_tf.training.progress import (
    Progress,
    load_progress,
    load_state,
    save_state,
)
from simcse_tf.training.run_data import open_data, open_run, progress_of
from simcse_tf.training.run_directory import RunDirectory


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Data, and a config of a run with a checkpoint every other step."""
    make_workspace(tmp_path, Path("preset"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(workspace):
    return load_config("config.json", ["training.checkpoint_every=2"])


@pytest.fixture
def run(config):
    return write_run(config.output_dir, config)


def resume(config):
    with open_run(config, resume=True) as data:
        return progress_of(config, data, resume=True)


def refused(message):
    return pytest.raises(UserError, match=message)


# === One process ===


def test_a_directory_in_which_a_process_trains_is_refused(workspace, config, run):
    before = sorted(map(str, workspace.rglob("*")))
    with locked(run.lock_file, "it trains"):
        message = rf"output_dir run: another process trains there: .*{os.getpid()} on "
        for flags in ([], ["--resume"]):
            with refused(message):
                train.main(["--config", "config.json", *flags])
    assert sorted(map(str, workspace.rglob("*"))) == before


def test_the_directory_is_held_while_the_data_are_open(config):
    with open_run(config), refused("another process trains there"), open_run(config):
        pass
    assert not Path("run").exists()


def test_only_the_chief_holds_it(config):
    with open_run(config, chief=True), open_run(config, chief=False) as data:
        assert data.last_step == 6


# === Whether there is a run, and which ===


@pytest.mark.parametrize(
    "written", ["metrics.jsonl", "best", "last", "checkpoints", "test.json"]
)
@pytest.mark.parametrize("flag", [False, True])
def test_what_a_run_wrote_is_not_overwritten_for_want_of_its_config(
    config, run, written, flag
):
    for name in {path.name for path in run.path.iterdir()} - {written}:
        _remove(run.path / name)
    message = f"output_dir run holds a run's {written}, but no config.json"
    with refused(message), open_run(config, resume=flag):
        pass


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
        ("\ud800", "surrogates not allowed"),
        ("link", "cannot lock link/.lock: File exists"),
        ("train.txt/run", "train.txt is not a writable directory"),
    ],
)
def test_a_directory_that_cannot_be_is_told(config, name, message):
    os.symlink("nowhere", "link")
    config = config.model_copy(update={"output_dir": name})
    with refused(message), open_run(config):
        pass


# === Copies ===


@pytest.mark.parametrize("others", [True, False])
def test_a_copy_that_follows_links_resumes_where_the_run_was(config, run, others):
    copy = run.path.with_name("copy")
    shutil.copytree(run.path, copy)
    if not others:
        shutil.rmtree(copy / "checkpoints")
    config = config.model_copy(update={"output_dir": str(copy)})
    with open_run(config, resume=True) as data:
        assert progress_of(config, data, resume=True).step == 6
        np.testing.assert_equal(load_state(str(copy)), state_of(6))
        run_start.begin(copy, config)
    assert os.readlink(copy / "last") == "checkpoints/step-00000006"
    np.testing.assert_equal(load_state(str(copy)), state_of(6))
    assert len(RunDirectory(copy).metrics()) == 6


def test_a_copy_that_leaves_links_out_resumes_from_the_newest_checkpoint(config, run):
    run.last.unlink()
    assert resume(config).step == 6


def test_a_copy_without_checkpoints_is_refused_and_its_log_stays(config, run):
    run.last.unlink()
    shutil.rmtree(run.checkpoints)
    log = run.metrics_file.read_text()
    with refused("run holds the log of 6 steps, but neither last nor checkpoints/"):
        resume(config)
    assert run.metrics_file.read_text() == log


def test_a_copy_without_the_best_model_is_refused(config, run):
    shutil.rmtree(run.best)
    with refused("has been evaluated, but there is no best/ with its scores"):
        resume(config)


def test_a_log_that_is_behind_the_checkpoint_is_refused(config, run):
    run.metrics_file.write_text('{"step": 1}\n{"step": 2}\n')
    with refused("metrics.jsonl holds 2 steps, and the last checkpoint is of step 6"):
        resume(config)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(config, run):
    run.last.unlink()
    shutil.rmtree(run.checkpoints)
    run.metrics_file.write_text('{"step": 1}\n{"step": 2}\n{"step": ')
    assert resume(config).step == 0


def test_last_may_be_linked_to_an_older_checkpoint(config, run):
    run.last.unlink()
    run.last.symlink_to("checkpoints/step-00000004")
    assert resume(config).step == 4


# === The same data ===


def test_other_sentences_of_the_same_number_are_another_run(config, run):
    checkpoint_of(config, open_data(config))
    assert resume(config).step == 6
    text = Path("train.txt").read_text()
    Path("train.txt").write_text(text[::-1])
    with refused("train.txt holds sha256 [0-9a-f]{64}, and held sha256 [0-9a-f]{64} "):
        resume(config)
    Path("moved.txt").write_text(text)
    config.data.train = "moved.txt"
    assert resume(config).step == 6


def test_other_dev_pairs_are_another_run(config, run):
    checkpoint_of(config, open_data(config))
    dev = Path("senteval/STS/STSBenchmark/sts-dev.csv")
    dev.write_text(dev.read_text().replace(SENTENCES[0], "Nobody plays."))
    with refused("data.evaluation senteval holds sha256 .*, and held sha256 "):
        resume(config)
    config.data.evaluation = None
    assert resume(config).dev.startswith("sha256 ")


@pytest.mark.parametrize("asked", [False, True])
def test_a_run_that_counted_repeats_as_negatives_goes_on_so(run, capsys, asked):
    begun = json.loads(run.config_file.read_text())
    del begun["objective"]["mask_duplicates"]
    run.config_file.write_text(json.dumps(begun))
    flags = ["--set", "training.checkpoint_every=2", "data.train=nothing.txt"]
    flags += ["objective.mask_duplicates=true"] * asked
    # Of another file: the data are looked at behind the config.
    message = "mask_duplicates was False and is True" if asked else "nothing.txt"
    with refused(message):
        train.main(["--config", "config.json", "--resume", *flags])
    told = "objective.mask_duplicates is false, as when the run began"
    assert (told in capsys.readouterr().out) != asked


def test_a_run_of_an_older_version_does_not_say_what_its_data_are(config, run):
    assert load_progress("run") == Progress(6, 25)
    progress = resume(config)
    assert progress.step == 6
    assert progress.data == open_data(config).source.fingerprint
    assert progress.dev.startswith("sha256 ")


def checkpoint_of(config, data):
    """The run's last checkpoint again, as this version writes it."""
    progress = progress_of(config, data, resume=False)
    progress.step = 6
    save_state(Path("run/last"), progress, state_of(6))
