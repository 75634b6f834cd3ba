"""`python -m simcse_tf.mine`, from pairs to a file that `train` reads."""

import csv
import json

import numpy as np
import pytest
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.data.written import write_rows
from simcse_tf.encoding import model_encoder
from simcse_tf.mine import main

PAIRS = [(SENTENCES[i], SENTENCES[i + 1]) for i in range(0, 6, 2)]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        # The first anchor has two positives.
        rows = [("sent0", "sent1"), *PAIRS, (PAIRS[0][0], PAIRS[1][1])]
        csv.writer(file).writerows(rows)
    return path


def mine(preset, pairs, output, *flags):
    paths = {"--model": preset, "--pairs": pairs, "--output": output}
    main([*(str(part) for flag in paths.items() for part in flag), *flags])


def test_pairs_become_rows_with_hard_negatives(tiny_preset, pairs, tmp_path, capsys):
    flags = ["--negatives", "2", "--relative-margin", "0", "--pooling", "avg"]
    mine(tiny_preset, pairs, tmp_path / "out.jsonl", *flags)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [(row["sent0"], row["sent1"]) for row in rows[:3]] == PAIRS
    model = SimCSE.from_preset(str(tiny_preset), pooling="avg")
    embed = dict(zip(SENTENCES, model.predict(SENTENCES, verbose=0), strict=True))
    positives = {row["sent1"] for row in rows}
    for row in rows:
        gold = {r["sent1"] for r in rows if r["sent0"] == row["sent0"]}
        score = embed[row["sent0"]] @ embed[row["sent1"]]
        near = sorted(
            positives - gold - {row["sent0"]},
            key=lambda text: -embed[row["sent0"]] @ embed[text],
        )
        expected = [text for text in near if embed[row["sent0"]] @ embed[text] < score]
        assert row["hard_neg"] == expected[:2]
    assert "4 rows" in capsys.readouterr().out


def test_each_side_has_its_prompt_which_a_flag_replaces(
    tiny_preset, pairs, tmp_path, monkeypatch
):
    prompts = {"query": "a man: ", "document": "the ", "other": "a woman: "}
    model = SimCSE.from_preset(str(tiny_preset), pooling="avg", prompts=prompts)
    model.save_to_preset(str(tmp_path / "model"))
    seen = []

    def encode(model, texts, **options):
        seen.append((model.prompt, {*texts}))
        return np.eye(1, 4).repeat(len(texts), axis=0)

    monkeypatch.setattr(model_encoder, "encode", encode)
    anchors, positives = ({*side} for side in zip(*PAIRS, strict=True))
    for flags, before_anchors, before_positives in (
        ([], "a man: ", "the "),
        (["--query-prompt", "other"], "a woman: ", "the "),
        (["--prompt", "other"], "a woman: ", "a woman: "),
        (["--prompt", "query", "--document-prompt", "other"], "a man: ", "a woman: "),
    ):
        seen.clear()
        mine(tmp_path / "model", pairs, tmp_path / "out.jsonl", *flags)
        assert seen == [(before_anchors, anchors), (before_positives, positives)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--negatives", "0"], "--negatives: expected 1 or more, received 0"),
        (["--depth", "1", "--skip", "1"], r"--depth: expected at least .* \(2\)"),
        (["--margin", "-1"], "--margin: expected 0 to 2"),
        (["--relative-margin", "2"], "--relative-margin: expected 0 to 1"),
        (["--corpus", "PAIRS"], "expected single texts, received pairs"),
        (["--output", "out.txt"], "--output: expected a .jsonl, .csv, .tsv file"),
        (["--query-prompt", "query"], "has no prompt 'query': it has none at all"),
    ],
    ids=["negatives", "depth", "margin", "relative", "corpus", "output", "prompt"],
)
def test_a_mistake_is_told(tiny_preset, pairs, tmp_path, flags, message):
    flags = [str(pairs) if flag == "PAIRS" else flag for flag in flags]
    with pytest.raises(UserError, match=message):
        mine(tiny_preset, pairs, tmp_path / "out.jsonl", *flags)
    assert not (tmp_path / "out.jsonl").exists()


def test_columns_are_written_as_the_files_have_them(tmp_path):
    rows = [("a", 'b, "c"', "d", "e"), ("f", "g"), ("h\n", "i", "j")]
    write_rows(tmp_path / "out.csv", rows, negatives=2)
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["sent0", "sent1", "hard_neg", "hard_neg2"],
            ["a", 'b, "c"', "d", "e"],
            ["f", "g", "", ""],
            ["h\n", "i", "j", ""],
        ]
    with pytest.raises(UserError, match=r"cannot hold 'h\\n' with a tab or line"):
        write_rows(tmp_path / "out.tsv", rows, negatives=2)
    assert not (tmp_path / "out.tsv").exists()
    write_rows(tmp_path / "out.tsv", rows[:2], negatives=2)
    lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert lines[1:] == ['a\tb, "c"\td\te', "f\tg\t\t"]
