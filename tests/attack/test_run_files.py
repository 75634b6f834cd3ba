"""A run's files, damaged at random: each damage is told in one line or does no harm."""

import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.kill_points import KILL, attempt
from support.models import make_workspace
from support.runs import state_of, write_run

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import write_json
from simcse_tf.reporting.run import read_run
from simcse_tf.training.config import load_config
from simcse_tf.training.progress import load_progress, load_state
from simcse_tf.training.run_data import open_run, progress_of
from simcse_tf.training.run_start import begin
from simcse_tf.training.sweep_summary import summarize

TIMES = 24


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(make_workspace(tmp_path, Path("preset")))
    return load_config("config.json")


@pytest.fixture
def run(config):
    return write_run("run", config)


def flip(content, chance):
    place = chance.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8


def cut(content, chance):
    del content[chance.randrange(len(content)) :]


def blank(content, chance):
    """What a machine that loses its power may leave."""
    place = chance.randrange(len(content))
    content[place : place + 64] = bytes(len(content[place : place + 64]))


def scribble(content, chance):
    place = chance.randrange(len(content))
    content[place : place + 8] = chance.randbytes(len(content[place : place + 8]))


DAMAGES = (flip, cut, blank, scribble)


def damaged(path, damages=DAMAGES):
    """Yields while the file is damaged, `TIMES` times in each way."""
    whole = path.read_bytes()
    chance = random.Random(path.name)
    for damage in damages * TIMES:
        content = bytearray(whole)
        damage(content, chance)
        if content != whole:
            path.write_bytes(content)
            yield damage.__name__
    path.write_bytes(whole)


def told(read):
    """Whether it is told in one short line; any other exception is a failure."""
    try:
        read()
    except UserError as error:
        assert len(str(error)) < 1500
        return True
    return False


def resume(config):
    with open_run(config, resume=True) as data:
        progress_of(config, data, resume=True)


def test_a_damaged_checkpoint_is_told_with_the_one_that_is_whole(config, run):
    def restore():
        resume(config)
        assert load_progress("run").step == 6
        np.testing.assert_equal(load_state("run"), state_of(6))

    outcomes = []
    for damage in damaged(run.last / "training_state.npz"):
        outcomes.append(told(restore))
        # A cut or blank end may hit what a ZIP file does not need.
        assert outcomes[-1] or damage in ("flip", "scribble"), damage
    assert sum(outcomes) > 0.8 * len(outcomes)
    print(f"{sum(outcomes)} of {len(outcomes)} told, the others without effect")

    (run.last / "training_state.npz").write_bytes(b"PK")
    with pytest.raises(UserError) as caught:
        restore()
    assert "cannot read run/last/training_state.npz" in str(caught.value)
    assert (
        "run/checkpoints/step-00000004 is whole: to resume from it, make run/last a "
        "link to checkpoints/step-00000004" in str(caught.value)
    )
    for step in (2, 4):
        (run.checkpoint(step) / "training_state.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="no other checkpoint is whole"):
        restore()
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match=r"No such file.*no other checkpoint is whole"):
        restore()


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "best/dev.json", "test.json"]
)
def test_other_damaged_files_are_told(config, run, name):
    def read():
        resume(config)
        read_run("run")
        run.test_scores  # noqa: B018

    outcomes = [told(read) for _ in damaged(run.path / name)]
    assert not told(read)
    # One number more or less is a number.
    assert sum(outcomes) > 0.6 * len(outcomes)
    print(f"{sum(outcomes)} of {len(outcomes)} told, the others are values")


@pytest.mark.parametrize("name", ["best/dev.json", "test.json", "metrics.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b'"text"',
        b'{"step": "6", "avg": "70"}',
        b'{"step": [6]}',
        b"\xff\xfe",
        b"",
        b"\n",
        b'{"step": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda content: str(content[:20]),
)
def test_a_file_of_another_kind_is_told(config, run, name, content):
    (run.path / name).write_bytes(content + b"\n" if content else content)

    def read():
        resume(config)
        run.test_scores  # noqa: B018

    assert told(read)


def test_a_damaged_result_of_a_sweep_is_told(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"STSBenchmark dev": 71.25, "avg dev": 70.5, "avg test": 69.5})
    runs = [SimpleNamespace(setting="base", result_file=path)]
    outcomes = [told(lambda: summarize(runs)) for _ in damaged(path)]
    assert not told(lambda: summarize(runs))
    assert sum(outcomes) > 0.6 * len(outcomes)
    for content in ("[]", "{}", '{"avg dev": "70"}', '{"else": 1}'):
        path.write_text(content)
        assert told(lambda: summarize(runs)), content


@pytest.mark.parametrize("others", [True, False])
def test_a_kill_while_last_is_made_a_link_again_loses_nothing(config, run, others):
    """A copy that follows links has a directory there."""
    shutil.copytree(run.path, "copy")
    if not others:
        shutil.rmtree("copy/checkpoints")
    killed = 0
    while True:
        place = Path("killed")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree("copy", place, symlinks=True)
        outcome = attempt(lambda path: begin(path, config), place, KILL, killed)
        np.testing.assert_equal(load_state("killed"), state_of(6))
        if not outcome.was_killed:
            break
        begin(place, config)
        assert (place / "last").readlink() == Path("checkpoints/step-00000006")
        np.testing.assert_equal(load_state("killed"), state_of(6))
        killed += 1
    assert outcome.error is None
    assert killed > 10
