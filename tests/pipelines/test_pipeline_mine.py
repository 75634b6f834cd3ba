"""`pipeline mine` over shards, against the miner in memory."""

import json

import numpy as np
import pytest
from support.embedding_shards import unit_rows, write_shards

from simcse_tf.core.errors import UserError
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


def test_shards_are_mined_as_one_file_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    # Anchors and positives repeat, and some anchors are candidates.
    names = [f"text {n}" for n in range(50)]
    of_text = dict(zip(names, unit_rows(50), strict=True))
    anchors = [names[n] for n in rng.integers(0, 20, 40)]
    positives = [names[n] for n in rng.integers(10, 50, 40)]
    one, other = (np.stack([of_text[t] for t in x]) for x in (anchors, positives))
    rule = Rule(3, 1, 12, relative_margin=0.0, sampling="random")
    # Of pairs that are near, so that negatives are below them.
    other = other + 2 * one

    # Positives come in another order, and two rows have no other half.
    ids, order = [f"id {n}" for n in range(40)], rng.permutation(40)
    lone = [*anchors, "nobody's"], np.concatenate([one, one[:1]])
    a = write_shards(tmp_path / "a", *lone, 2, [*ids, "no positive"])
    p = write_shards(
        tmp_path / "p",
        [positives[n] for n in order],
        other[order],
        3,
        [ids[n] for n in order],
    )
    flags = ["--negatives=3", "--skip=1", "--depth=12", "--relative-margin=0"]
    out = tmp_path / "out"
    flags += ["--sampling=random", "--output", str(out)]
    main(["mine", "--anchors", a, "--positives", p, *flags])

    pairs = list(zip(anchors, positives, strict=True))
    corpus = [positives[n] for n in order]
    expected = _in_memory(pairs, one, other, corpus, other[order], rule)
    assert _rows(out) == expected
    assert sum(len(row["hard_neg"]) for row in expected) > 60
    [letters] = out.glob("dead-letters-*.jsonl")
    letter = json.loads(letters.read_text())
    assert letter["id"] == "no positive"
    assert letter["reason"] == "its id has 1 anchors and 0 positives"


def test_candidates_are_of_the_anchors_model_and_have_texts(tmp_path):
    texts = ["a", "b"]
    a = write_shards(tmp_path / "a", texts, unit_rows(2), prompt="query: ")
    p = write_shards(tmp_path / "p", texts, unit_rows(2))
    c = write_shards(tmp_path / "c", texts, unit_rows(2), fingerprint="b" * 64)
    n = write_shards(tmp_path / "n", None, unit_rows(2))
    flags = ["mine", "--anchors", a, "--positives", p, "--output", str(tmp_path / "o")]
    with pytest.raises(UserError, match="bbbb.*aaaa.*expected one model's"):
        main([*flags, "--candidates", c])
    with pytest.raises(UserError, match="--candidates: expected files with the texts"):
        main([*flags, "--candidates", n])
