"""A run whose false negatives another model finds."""

import itertools
import json

import pytest
from support.forked import run_command
from support.models import SENTENCES, make_workspace
from support.runs import metrics

GUIDED = "objective.false_negative_guide="


@pytest.mark.slow
def test_a_guide_says_which_candidates_are_left_out(
    tmp_path, tiny_preset, small_preset
):
    make_workspace(tmp_path, tiny_preset)
    rows = [f"{a},{b}" for a, b in itertools.pairwise(SENTENCES)]
    (tmp_path / "train.csv").write_text("\n".join(["sent0,sent1", *rows]) + "\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config["data"] = {"train": "train.csv"}
    config["training"].update(batch_size=4, epochs=1, max_steps=1)
    (tmp_path / "config.json").write_text(json.dumps(config))

    def train(*overrides, flags=()):
        return run_command(
            "simcse_tf.train", "--config", "config.json", *flags, "--set",
            "objective.false_negative_margin=1", f"{GUIDED}{small_preset}", *overrides,
            cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"),
        )  # fmt: skip

    done = train()
    assert done.returncode == 0, done.stderr
    assert "objective.false_negative_guide: embeds 8 distinct texts" in done.stderr
    # A guide with random weights finds no two texts that are less alike.
    assert metrics(tmp_path / "run")[0]["loss"] == 0

    done = train(f"{GUIDED}{tiny_preset}", "training.max_steps=2", flags=["--resume"])
    assert done.returncode == 2
    assert "is not the model that the run began with" in done.stderr
