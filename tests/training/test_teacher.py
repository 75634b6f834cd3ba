"""A run that distils a teacher: resumed exactly, with the same one, or told why not."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from support.forked import run_command, start_command
from support.models import make_preset, make_workspace
from support.runs import metrics, same_but_for_time

from simcse_tf.core.errors import UserError
from simcse_tf.train import main
from simcse_tf.training.config import load_config, parse_config
from simcse_tf.training.run_start import RESUMABLE_KEYS, changed_keys

STEPS = ["training.checkpoint_every=2", "data.evaluation=null"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_preset):
    return make_workspace(tmp_path_factory.mktemp("distilled"), tiny_preset)


def train(workspace, *overrides, resume=False, start=run_command):
    flags = ["--resume"] if resume else []
    return start(
        "simcse_tf.train", "--config", "config.json", *flags, "--set", *STEPS,
        *overrides, cwd=workspace, XDG_CACHE_HOME=str(workspace / "cache"),
    )  # fmt: skip


def teacher(preset, **settings):
    return f"objective.teacher={json.dumps({'model': str(preset), **settings})}"


@pytest.mark.slow
def test_a_run_distils_a_teacher_and_resumes_to_the_same_numbers(
    workspace, tiny_preset
):
    """With hard lists of micro-batches, two encoders, and a kill in between."""
    section = teacher(tiny_preset, pooling="avg", loss="listmle")
    settings = [
        section,
        "objective.consistency_weight=0.5",
        "model.encoders=dual",
        "training.micro_batch_size=4",
    ]
    whole = train(workspace, *settings, "output_dir=whole")
    assert whole.returncode == 0, whole.stderr
    assert "objective.teacher: embeds 25 distinct texts once, into " in whole.stderr

    killed = train(workspace, *settings, "output_dir=killed", start=start_command)
    log = workspace / "killed" / "metrics.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert killed.returncode is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    moved = make_preset(workspace / "another", layers=1, tokens=3000)
    refused = train(
        workspace,
        *settings,
        teacher(moved, pooling="avg", loss="listmle"),
        "output_dir=killed",
        resume=True,
    )
    assert refused.returncode == 2
    [line] = [each for each in refused.stderr.splitlines() if "--resume" in each]
    assert "is not the model that the run began with" in line

    resumed = train(workspace, *settings, "output_dir=killed", resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "embeds" not in resumed.stderr
    runs = [
        same_but_for_time(metrics(workspace / name)) for name in ("whole", "killed")
    ]
    assert runs[0] == runs[1]
    losses = [line["loss"] for line in runs[0]]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
