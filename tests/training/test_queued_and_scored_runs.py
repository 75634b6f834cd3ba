"""Runs with ESimCSE's queue, and on pairs with scores."""

import json
import shutil

import numpy as np
import pytest
from support.forked import run_command
from support.models import SENTENCES, make_preset, make_workspace
from support.runs import metrics, same_but_for_time

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.training.config import parse_config
from simcse_tf.training.progress import link_last, load_state
from simcse_tf.training.run_data import training_source
from simcse_tf.training.run_directory import RunDirectory


def parsed(objective, data=(), **sections):
    values = {
        "model": {"preset": "p"},
        "objective": objective,
        "data": {"train": "t.txt", **dict(data)},
        "output_dir": "o",
    }
    for section, keys in sections.items():
        values[section] = {**values.get(section, {}), **keys}
    return parse_config(values)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    make_workspace(directory, make_preset(directory / "preset", 1, tokens=3000))
    others = [*SENTENCES[1:], *SENTENCES]
    rows = [
        f"{text},{other},{i / 2}"
        for i, (text, other) in enumerate(zip(SENTENCES * 2, others, strict=False))
    ]
    (directory / "pairs.csv").write_text(
        "\n".join(["sentence1,sentence2,score", *rows]) + "\n"
    )
    config = json.loads((directory / "config.json").read_text())
    config["data"].pop("evaluation")
    config["training"] |= {"max_steps": 4, "checkpoint_every": 2, "keep": 9}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def train(workspace, *overrides, flags=()):
    arguments = ["--config", "config.json", "--set", *overrides, *flags]
    done = run_command("simcse_tf.train", *arguments, cwd=workspace)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.attack)])
def test_queue_and_slower_encoder_resume_bit_for_bit(workspace, replicas):
    names = [f"{name}-{replicas}" for name in ("whole", "cut")]
    whole, cut = (RunDirectory(workspace / name) for name in names)
    overrides = [
        "objective.queue_size=12", "objective.momentum=0.9",
        "data.augmentation=word_repetition", "data.augmentation_rate=0.32",
    ]  # fmt: skip
    flags = []
    if replicas > 1:
        overrides += ["training.strategy=mirrored", "training.micro_batch_size=2"]
        flags += ["--logical-devices", replicas]
    train(workspace, *overrides, f"output_dir={names[0]}", flags=flags)
    shutil.copytree(whole.path, cut.path, symlinks=True)
    link_last(cut, cut.checkpoint(2))
    for path in (cut.checkpoint(4), cut.best):
        shutil.rmtree(path)
    train(workspace, *overrides, f"output_dir={names[1]}", flags=[*flags, "--resume"])
    expected, found = load_state(str(whole.path)), load_state(str(cut.path))
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    logs = [same_but_for_time(metrics(run.path)) for run in (whole, cut)]
    assert logs[0] == logs[1]
    # The state has the queue, newest first; the saved model has not.
    [queue] = [array for name, array in expected.items() if array.shape == (12, 16)]
    assert queue.any(axis=-1).all()
    weights = SimCSE.from_preset(str(whole.path / "last")).weights
    assert not any(weight.shape == (12, 16) for weight in weights)


@pytest.mark.slow
def test_a_run_on_pairs_with_scores_compares_all_pairs_of_a_batch(workspace):
    train(
        workspace, "objective.kind=cosent", "data.train=pairs.csv", "output_dir=cosent",
        "training.max_steps=1", "data.shuffle=false", "model.dropout=0.0",
    )  # fmt: skip
    # A fresh model finds all pairs alike, and the scores of the batch all differ.
    [line] = metrics(workspace / "cosent")
    assert line["loss"] == pytest.approx(np.log(1 + 8 * 7 / 2), abs=0.05)


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("contrastive", "pairs.csv", "contrastive: .*texts alone.*cosent or angle"),
        ("cosent", "train.txt", "cosent: .*pairs with scores .*1 columns of texts"),
        ("angle", "plain.csv", "angle: .*pairs with scores .*2 columns of texts"),
    ],
)
def test_scored_pairs_and_texts_alone_each_need_their_objective(
    workspace, kind, file, message
):
    (workspace / "plain.csv").write_text("sent0,sent1\na,b\n")
    config = parsed({"kind": kind}, {"train": str(workspace / file)})
    with pytest.raises(UserError, match=message) as error:
        training_source(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("objective", "sections", "message"),
    [
        (
            {"kind": "cosent", "queue_size": 8},
            {},
            "queue_size: expected null with kind",
        ),
        ({"kind": "angle", "hard_negative_weight": 1.0}, {}, "weight: expected 0.0"),
        ({"kind": "angle", "false_negative_margin": 0.0}, {}, "margin: expected null"),
        ({"kind": "angle", "consistency_weight": 0.1}, {}, "weight: expected 0.0"),
        ({"momentum": 0.9}, {}, "momentum: .* expected 0.995 where queue_size is null"),
        ({"queue_size": 0}, {}, "queue_size: expected 1 to"),
        ({"queue_size": 8, "momentum": 1.5}, {}, "momentum: expected 0 to 1"),
        ({"kind": "cosent"}, {"model": {"encoders": "dual"}}, "encoders: .* shared"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(objective, sections, message):
    with pytest.raises(UserError, match=message):
        parsed(objective, **sections)
