"""`pipeline mine` over shards, against the miner in memory."""

import json

import numpy as np
import pytest
from support.embedding_shards import unit_rows, write_shards

from simcse_tf.pipeline import main
from simcse_tf.search.mining import Rule, hard_negatives


def _rows(directory):
    paths = sorted(directory.glob("mined-*.jsonl"))
    return [json.loads(line) for p in paths for line in p.read_text().splitlines()]


def _in_memory(pairs, anchors, positives, corpus, vectors, rule):
    """As `simcse_tf.mine` does it."""
    first = {}
    for place, text in enumerate(corpus):
        first.setdefault(text, place)
    texts, places = list(first), list(first.values())
    row = {text: number for number, text in enumerate(texts)}
    known = {}
    for anchor, positive in pairs:
        known.setdefault(anchor, set()).update(
            row[t] for t in (anchor, positive) if t in row
        )
    mined = hard_negatives(
        anchors, positives, vectors[places], [known[a] for a, _ in pairs], rule
    )
    return [
        {"sent0": a, "sent1": p, "hard_neg": [texts[r] for r in found.rows]}
        for (a, p), found in zip(pairs, mined, strict=True)
    ]


@pytest.mark.parametrize("sampling", ["top", "random"])
def test_shards_are_mined_as_one_file_in_memory(tmp_path, sampling):
    rng = np.random.default_rng(0)
    # Anchors and positives repeat, and some anchors are candidates.
    names = [f"text {n}" for n in range(50)]
    of_text = dict(zip(names, unit_rows(50), strict=True))
    anchors = [names[n] for n in rng.integers(0, 20, 40)]
    positives = [names[n] for n in rng.integers(10, 50, 40)]
    one, other = (np.stack([of_text[t] for t in x]) for x in (anchors, positives))
    rule = Rule(3, 1, 12, relative_margin=0.0, sampling=sampling)
    # Of pairs that are near, so that negatives are below them.
    other = other + 2 * one

    a = write_shards(tmp_path / "a", anchors, one, 2)
    p = write_shards(tmp_path / "p", positives, other, 3)
    flags = ["--negatives=3", "--skip=1", "--depth=12", "--relative-margin=0"]
    out = tmp_path / "out"
    flags += ["--sampling", sampling, "--output", str(out)]
    main(["mine", "--anchors", a, "--positives", p, *flags])

    pairs = list(zip(anchors, positives, strict=True))
    expected = _in_memory(pairs, one, other, positives, other, rule)
    assert _rows(out) == expected
    assert any(row["hard_neg"] for row in expected)
