"""Runs on data as they come: several files, weights, repeats."""

import gzip
import json

import pytest
from support.models import SENTENCES, make_preset
from support.runs import metrics

from simcse_tf import train
from simcse_tf.core.errors import UserError
from simcse_tf.data.mixture import Mixture


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Pairs and triplets in three files, and a config of three steps.

    A short vocabulary and batches of one length keep the runs quick.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    pairs = "".join(f"{text},{text[::-1]}\n" for text in SENTENCES)
    for name in ("a", "b"):
        (tmp_path / "shards" / f"{name}.csv").write_text(f"sent0,sent1\n{pairs}")
    rows = [
        {"anchor": text, "positive": f"{text} {i}", "negative": "No."}
        for i, text in enumerate(SENTENCES)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    config = {
        "model": {"preset": "preset", "max_length": 4},
        "data": {
            "train": ["shards/*.csv", {"path": "t.jsonl.gz", "weight": 0.5}],
            "no_duplicates": True,
        },
        "training": {"epochs": 1, "batch_size": 6},
        "output_dir": "run",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def run(*overrides, flags=()):
    train.main(["--config", "config.json", *flags, "--set", "data.seed=1", *overrides])


@pytest.mark.slow
def test_a_run_on_a_mixture_sees_no_text_twice_a_step_and_says_what_it_reads(
    workspace, monkeypatch, capsys
):
    make_preset(workspace / "preset", layers=1, tokens=3000)
    read, batches = Mixture.read, []

    def watched(self, indices, epoch=0):
        rows = read(self, indices, epoch)
        batches.append(rows)
        return rows

    monkeypatch.setattr(Mixture, "read", watched)
    run()
    told = capsys.readouterr().out
    assert "shards/a.csv: 8 pairs" in told
    assert "t.jsonl.gz: weight 0.5, 4 examples an epoch" in told
    assert "no duplicates: 20 examples hold a text more than once" in told
    assert "20 triplets; 3 steps an epoch, 3 in all" in told
    assert [line["step"] for line in metrics(workspace / "run")] == [1, 2, 3]
    steps = [rows for rows in batches if len(rows) == 6]
    assert len(steps) >= 3
    for rows in steps:
        texts = [text for row in rows for text in set(row) if text]
        assert len(texts) == len(set(texts))

    with pytest.raises(UserError, match=r"--resume: data\.train .* holds sha256 "):
        run(
            'data.train=["t.jsonl.gz", {"path": "shards/*.csv", "weight": 0.75}]',
            flags=["--resume"],
        )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train=shards/*.tsv", r"data\.train: shards/\*\.tsv matches no file"),
        (
            'data.train=["shards/*.csv", "shards/a.csv"]',
            r"same data twice, as shards/a\.csv and shards/a\.csv",
        ),
        (
            'data.train=["shards/*.csv", "same.txt"]',
            r"received pairs in shards/a\.csv and single sentences in same\.txt",
        ),
        ("data.train=same.txt", r"64 examples, and no 6 of them .*without a text in c"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(workspace, override, message):
    (workspace / "same.txt").write_text("the same\n" * 64)
    with pytest.raises(UserError, match=message):
        run(override)
    assert not (workspace / "run").exists()
