"""Which dev score chooses the best model, and when a run ends early."""

import json
import math
import shutil

import numpy as np
import pytest
from support.forked import run_command
from support.models import make_preset, make_workspace
from support.runs import metrics, same_but_for_time

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation.own_sets import RetrievalSet, Triplets
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.tasks import Tasks
from simcse_tf.training import callbacks
from simcse_tf.training.config import load_config, parse_config
from simcse_tf.training.dev_data import (
    evaluation_data,
    fingerprint,
    selection,
    selection_score,
)
from simcse_tf.training.divergence import Guard
from simcse_tf.training.progress import Progress, load_progress, save_state
from simcse_tf.training.run_data import open_data, progress_of

PAIRS = Pairs(["a"], ["b"], np.array([1.0]))
OWN = {
    "mine": PAIRS,
    "tri": Triplets(["a"], ["b"], ["c"]),
    "beir": RetrievalSet({"q": "a"}, {"d": "b"}, {"q": {"d": 1}}),
}
STS = {"STSBenchmark": PAIRS, "SICKRelatedness": PAIRS}


def config(evaluation="dev.csv", **section):
    return parse_config(
        {
            "model": {"preset": "p"},
            "data": {"train": "t.txt", "evaluation": evaluation},
            "evaluation": section,
            "output_dir": "run",
        }
    )


@pytest.mark.parametrize(
    ("select", "dev", "chosen"),
    [
        (None, Tasks(STS), "STSBenchmark"),
        (None, Tasks(STS, own=OWN), "STSBenchmark"),
        (None, Tasks({"SICKRelatedness": PAIRS}), "avg"),
        (None, Tasks(own=OWN), "avg"),
        ("avg", Tasks(STS), "avg"),
        ("mine", Tasks(STS, own=OWN), "mine"),
        ("own_avg", Tasks(STS, own=OWN), "own_avg"),
        ("beir:ndcg@10", Tasks(own=OWN), "beir:ndcg@10"),
    ],
)
def test_the_score_that_decides(select, dev, chosen):
    assert selection(select, dev) == chosen


def test_an_unknown_score_is_answered_with_all_there_are():
    with pytest.raises(UserError) as error:
        selection("STSB", Tasks({"STSBenchmark": PAIRS}, own=OWN))
    assert str(error.value) == (
        "evaluation.select: expected one of STSBenchmark, mine, tri, beir:ndcg@10, "
        "beir:mrr@10, beir:recall@10, beir:recall@100, own_avg, avg, received STSB"
    )


def test_an_undefined_score_is_below_all_others():
    assert selection_score({"avg": math.nan}, "avg") == -math.inf
    assert selection_score({}, "mine") == -math.inf
    assert selection_score({"mine": -100.0, "avg": 3.0}, "mine") == -100


def test_the_fingerprint_is_that_of_the_data_that_decide():
    dev = Tasks(STS, own=OWN)
    others = Tasks(STS, own={**OWN, "tri": Triplets(["a"], ["b"], ["d"])})
    for select, changes in (("tri", True), ("own_avg", True), ("beir:mrr@10", False)):
        settings = config(select=select)
        same = fingerprint(settings, dev) == fingerprint(settings, others)
        assert same is not changes, select
    assert fingerprint(config(), dev) == fingerprint(config(), Tasks(STS))
    assert fingerprint(config(), Tasks()) == ""


@pytest.mark.parametrize(
    ("evaluation", "section", "message"),
    [
        (5, {}, r"data\.evaluation: expected a path, or paths by name .*received 5"),
        ({"a": {"dev": 3}}, {}, r"data\.evaluation: expected a path, or paths by name"),
        ({}, {}, r"data\.evaluation: expected a path"),
        (None, {"select": "avg"}, r"evaluation\.select: needs dev scores, and data\."),
        (None, {"patience": 3}, r"evaluation\.patience: needs dev scores"),
        ("x", {"patience": 0}, r"patience: expected 1 to"),
    ],
)
def test_a_config_that_cannot_be_is_told(evaluation, section, message):
    with pytest.raises(UserError, match=message):
        config(evaluation, **section)


def test_named_data_are_one_key_of_the_config():
    named = {"mine": {"dev": "a.csv", "test": "b.csv"}}
    assert config(named).flat()["data.evaluation"] == named


def test_data_without_a_dev_split_are_told(tmp_path):
    (tmp_path / "test.csv").write_text("anchor,positive,negative\na,b,c\n")
    with pytest.raises(UserError, match=r"data\.evaluation: expected a dev split"):
        evaluation_data(config(str(tmp_path)))


def test_patience_counts_evaluations_without_a_better_score():
    progress = Progress()
    ended = []
    for score in (-math.inf, 3.0, 3.0, 2.0, 4.0, -math.inf, 4.0, 1.0):
        progress.count_evaluation(score, patience=3)
        ended.append(progress.ended)
    assert ended == [False] * 7 + [True]
    assert (progress.best, progress.stale) == (4, 3)
    progress.count_evaluation(3.0, patience=None)
    assert (progress.stale, progress.ended) == (4, False)


@pytest.mark.parametrize("best", [None, -math.inf, 81.123456789012345])
def test_a_checkpoint_keeps_the_count(tmp_path, best):
    directory = tmp_path / "checkpoints" / "step-00000006"
    directory.mkdir(parents=True)
    progress = Progress(6, 25, "data", "dev", best=best, stale=2, ended=True)
    save_state(directory, progress, {})
    assert load_progress(str(tmp_path)) == progress


class Model:
    """What a callback asks of one."""

    weights = ()
    stop_training = False
    optimizer = type("Optimizer", (), {"variables": ()})


@pytest.mark.parametrize(
    ("found", "ends"), [([1, 0], True), ([0, 1], True), ([0, 0], False)]
)
def test_all_workers_end_where_one_of_them_does(monkeypatch, found, ends):
    monkeypatch.setattr(callbacks, "every_worker", lambda value: found)
    progress, model = Progress(3), Model()
    save = callbacks.Checkpoint(None, 1, lambda: False, Guard([]), progress, 9, 9)
    save.set_model(model)
    save.on_train_batch_end(0)
    assert model.stop_training is progress.ended is ends


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """A run that ends early, by its own pairs, and the directory that it is in."""
    path = tmp_path_factory.mktemp("early")
    make_workspace(path, make_preset(path / "preset", 1, tokens=3000))
    sentences = (path / "train.txt").read_text().split("\n")[:20]
    pairs = zip(sentences, sentences[7:] + sentences[:7], strict=True)
    rows = [f"{a},{b},{i % 5}" for i, (a, b) in enumerate(pairs)]
    for split in ("dev", "test"):
        (path / "mine").mkdir(exist_ok=True)
        text = "\n".join(["sentence1,sentence2,score", *rows])
        (path / "mine" / f"{split}.csv").write_text(text)
    values = json.loads((path / "config.json").read_text())
    values["model"]["max_length"] = 8
    values["data"]["evaluation"] = {"pairs": "mine", "sts": "senteval"}
    values["evaluation"] = {"select": "pairs", "patience": 3}
    values["training"] |= {
        "epochs": 9, "learning_rate": 1e-2, "evaluate_every": 1, "checkpoint_every": 2,
        "keep": 30,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(values))
    done = train(path)
    assert done.returncode == 0, done.stderr
    return path, done


def train(path, *arguments):
    return run_command(
        "simcse_tf.train", "--config", "config.json", *arguments, cwd=path
    )


@pytest.mark.slow
def test_a_run_ends_where_its_score_no_longer_rises(early):
    path, done = early
    lines = metrics(path / "run")
    scores = [line["dev_pairs"] for line in lines]
    best = int(np.argmax(scores)) + 1
    assert len(lines) == best + 3 < 27
    assert f"ended early, after step {best + 3}: no better dev score" in done.stdout
    assert f"best: step {best}, {max(scores):.2f} on dev (pairs)" in done.stdout
    assert "the best model is chosen by pairs" in done.stdout
    dev = json.loads((path / "run" / "best" / "dev.json").read_text())
    assert (dev["step"], dev["pairs"]) == (best, max(scores))
    test = json.loads((path / "run" / "test.json").read_text())
    assert list(test) == ["STSBenchmark", "avg", "pairs", "own_avg"]
    assert test["pairs"] == pytest.approx(dev["pairs"])
    assert load_progress(str(path / "run")).step == best + 3


@pytest.mark.slow
def test_a_killed_run_ends_at_the_same_step(early):
    """Its best model is ahead of the checkpoint that it goes on from."""
    path, _ = early
    shutil.copytree(path / "run", path / "killed", symlinks=True)
    (path / "killed" / "last").unlink()
    (path / "killed" / "last").symlink_to("checkpoints/step-00000002")
    done = train(path, "--resume", "--set", "output_dir=killed")
    assert "resuming after step 2" in done.stdout
    expected = same_but_for_time(metrics(path / "run"))
    assert same_but_for_time(metrics(path / "killed")) == expected
    last = path / "killed" / "last" / "training_state.npz"
    one, other = np.load(last), np.load(path / "run" / "last" / "training_state.npz")
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_a_run_that_ended_early_stays_so_until_it_may_wait_longer(early, monkeypatch):
    monkeypatch.chdir(early[0])
    settings = load_config("run/config.json")
    data = open_data(settings)
    assert progress_of(settings, data, resume=True).ended
    settings.evaluation.patience = 4
    assert not progress_of(settings, data, resume=True).ended


@pytest.mark.attack
def test_a_run_that_ended_says_so_and_goes_on_with_more_patience(early):
    path, _ = early
    steps = len(metrics(path / "run"))
    done = train(path, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"ended early, after step {steps}:" in done.stdout
    assert "resuming" not in done.stdout
    assert len(metrics(path / "run")) == steps
    shutil.copytree(path / "run", path / "more", symlinks=True)
    more = [
        "output_dir=more",
        "evaluation.patience=4",
        f"training.max_steps={steps + 1}",
    ]
    done = train(path, "--resume", "--set", *more)
    assert f"resuming after step {steps}" in done.stdout, done.stderr
    assert len(metrics(path / "more")) == steps + 1
