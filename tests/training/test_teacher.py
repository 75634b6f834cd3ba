"""A run that distils a teacher: resumed exactly, with the same one, or told why not."""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
from support.forked import run_command
from support.models import make_workspace
from support.runs import metrics, same_but_for_time

from simcse_tf.core.errors import UserError
from simcse_tf.training.config import load_config, parse_config
from simcse_tf.training.progress import Progress, link_last, load_progress
from simcse_tf.training.run_data import training_source
from simcse_tf.training.run_directory import RunDirectory
from simcse_tf.training.run_start import RESUMABLE_KEYS, changed_keys
from simcse_tf.training.teacher import load_teacher

STEPS = ["training.checkpoint_every=2", "data.evaluation=null"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_preset):
    return make_workspace(tmp_path_factory.mktemp("distilled"), tiny_preset)


def train(workspace, *overrides, resume=False):
    flags = ["--resume"] if resume else []
    return run_command(
        "simcse_tf.train", "--config", "config.json", *flags, "--set", *STEPS,
        *overrides, cwd=workspace, XDG_CACHE_HOME=str(workspace / "cache"),
    )  # fmt: skip


def teacher(preset, **settings):
    return f"objective.teacher={json.dumps({'model': str(preset), **settings})}"


@pytest.mark.slow
def test_a_run_distils_a_teacher_and_resumes_to_the_same_numbers_with_it_alone(
    workspace, tiny_preset, monkeypatch
):
    """With micro-batches, and from a checkpoint in between."""
    section = teacher(tiny_preset, pooling="avg", loss="listmle")
    settings = [
        section,
        "objective.consistency_weight=0.5",
        "training.micro_batch_size=4",
        "training.keep=2",
    ]
    whole = train(workspace, *settings, "output_dir=whole")
    assert whole.returncode == 0, whole.stderr
    assert "objective.teacher: embeds 25 distinct texts once, into " in whole.stderr

    shutil.copytree(workspace / "whole", workspace / "cut", symlinks=True)
    cut = RunDirectory(workspace / "cut")
    link_last(cut, cut.checkpoint(4))
    resumed = train(workspace, *settings, "output_dir=cut", resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step 4" in resumed.stdout
    assert "embeds" not in resumed.stderr
    runs = [same_but_for_time(metrics(workspace / name)) for name in ("whole", "cut")]
    assert runs[0] == runs[1]
    losses = [line["loss"] for line in runs[0]]
    assert len(losses) == 6
    assert np.isfinite(losses).all()

    monkeypatch.chdir(workspace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    begun, another = load_progress("cut"), json.loads(section.split("=", 1)[1])
    for settings, refused in ((another, False), ({**another, "pooling": "max"}, True)):
        given = load_config("config.json", [teacher(settings.pop("model"), **settings)])
        with refusal() if refused else nullcontext():
            load_teacher(given, training_source(given), begun)


def refusal():
    return pytest.raises(UserError, match="not the model that the run began with")


BASE = {"model": {"preset": "p"}, "data": {"train": "t.txt"}, "output_dir": "runs/x"}


def config(**objective):
    return parse_config({**BASE, "objective": objective})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "objective.teacher.model is missing"),
        ({"model": "t", "weigth": 1}, "unknown key objective.teacher.weigth .did you "
         "mean objective.teacher.weight"),
        ({"model": "t", "loss": "kl"}, "objective.teacher.loss: expected 'listnet', "
         "'listmle', 'embedding' or 'score', received \"kl\""),
        ({"model": "t", "temperature": 0}, "teacher.*temperature: expected 0.0001 to"),
        ({"model": "t", "weight": 0.0}, "teacher.*weight: expected 0.0001 to 1000"),
        ({"model": "t", "max_length": 2}, "teacher.*max_length: expected 3 to"),
        ({"model": "t", "pooling": "mean"}, "objective.teacher.*mean"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_section_is_told_by_its_whole_key(section, message):
    with pytest.raises(UserError, match=message):
        config(teacher=section)


def test_a_flag_sets_keys_of_a_section_that_a_runs_own_copy_says_is_null(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(parse_config(BASE).to_json())
    given = load_config(str(path), ["objective.teacher.model=t"])
    assert given.objective.teacher.model == "t"
    assert given.objective.teacher.loss == "listnet"


def test_a_run_goes_on_with_the_teacher_that_it_began_with():
    plain, taught = config(), config(teacher={"model": "t"})
    moved = config(teacher={"model": "elsewhere/t"})
    heavy = config(teacher={"model": "t", "weight": 2.0})
    assert not changed_keys(taught, moved, RESUMABLE_KEYS)
    assert "teacher.weight was 1.0 and is 2.0" in changed_keys(
        taught, heavy, RESUMABLE_KEYS
    )
    for before, after in ((plain, taught), (taught, plain)):
        assert "objective.teacher.loss was " in changed_keys(
            before, after, RESUMABLE_KEYS
        )


def test_a_teacher_that_cannot_be_loaded_is_told_in_a_line(
    workspace, tmp_path, monkeypatch
):
    monkeypatch.chdir(workspace)
    given = load_config("config.json", [teacher(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="^objective.teacher: .*nowhere"):
        load_teacher(given, training_source(given), Progress())


def test_a_made_positive_has_its_anchors_embedding_and_a_drawn_one_its_own(
    workspace, tiny_preset, tmp_path, monkeypatch
):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for override, anchors_only in (
        ("data.augmentation=crop", True),
        ("objective.kind=next_sentence", False),
        ("data.augmentation=none", False),
    ):
        given = load_config("config.json", [teacher(tiny_preset), override])
        source = training_source(given)
        loaded = load_teacher(given, source, Progress())
        assert loaded.anchors_only == anchors_only
        loaded.compute([])
        known = 1 if anchors_only else source.columns
        rows = source.read(range(len(source)), epoch=3)
        texts = np.array([row[:known] for row in rows], object)
        assert loaded.embeddings.look_up(texts).shape[:2] == texts.shape
