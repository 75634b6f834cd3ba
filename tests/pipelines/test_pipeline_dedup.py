"""`pipeline dedup`: who stays, against a loop over all rows."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.embedding_shards import unit_rows, write_shards

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.data.sources import open_source
from simcse_tf.pipeline import main
from simcse_tf.pipelines.duplicates import find
from simcse_tf.pipelines.near_rows import _uniform
from simcse_tf.search.near_duplicates import nearest_cells, representatives

THRESHOLD = 0.9


def _clustered(rows, seed=0):
    """Rows of which many are near others, some by way of a third one."""
    rng = np.random.default_rng(seed)
    near = unit_rows(rows // 4, seed=seed)[rng.integers(0, rows // 4, rows)]
    return l2_normalize(near + rng.normal(scale=0.08, size=near.shape))


def _one_by_one(texts, vectors):
    """The ids that stay: no earlier one has the text or is near."""
    kept = []
    for row, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        same = text in texts[:row]
        if not same and (not kept or (vectors[kept] @ vector).max() < THRESHOLD):
            kept.append(row)
    return kept


def _table(out, name):
    paths = sorted(out.glob(f"{name}-*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_what_stays_is_near_to_nothing_before_it(tmp_path):
    vectors = _clustered(60).astype(np.float64)
    texts = [f"text {n}" for n in range(60)]
    for row, first in ((20, 3), (41, 3), (59, 40)):
        texts[row], vectors[row] = texts[first], vectors[first]
    bad = vectors.copy()
    bad[7] = np.nan
    pattern = write_shards(tmp_path / "e", texts, bad.astype(np.float32), 3)
    out = tmp_path / "out"
    main(
        ["dedup", "--input", pattern, "--output", str(out), f"--threshold={THRESHOLD}"]
    )

    good = [row for row in range(60) if row != 7]
    kept = _one_by_one([texts[row] for row in good], vectors[good])
    kept = [good[row] for row in kept]
    assert [int(row["id"]) for row in _table(out, "kept")] == kept
    assert 10 < len(kept) < 50
    source = open_source(str(out / "kept-*.parquet"), shuffle=False)
    assert len(source) == len(kept)

    groups = _table(out, "groups")
    gone = [row for row in groups if row["kind"] != "kept"]
    assert {int(row["id"]) for row in gone} == set(good) - set(kept)
    for row in groups:
        one, other = vectors[int(row["representative"])], vectors[int(row["id"])]
        assert row["cosine"] == pytest.approx(one @ other, abs=1e-6)
        assert row["cosine"] >= THRESHOLD
        assert int(row["representative"]) == row["group"]
    assert [int(r["id"]) for r in gone if r["kind"] == "same text"].count(20) == 1
    [letters] = out.glob("dead-letters-*.jsonl")
    letter = json.loads(letters.read_text())
    assert (letter["id"], letter["reason"]) == ("7", "the embedding is not finite")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["kept"], summary["bad_rows"]) == (len(kept), 1)


def test_cells_miss_little_and_say_how_much(tmp_path):
    vectors = _clustered(200)
    pattern = write_shards(tmp_path / "e", None, vectors, 2)
    counted = find([pattern], str(tmp_path / "out"), THRESHOLD, 3, [], pivots=40)

    # All 200 rows are in the sample, so each pair is there from both sides.
    near = np.triu(vectors @ vectors.T >= THRESHOLD, 1)
    cells = nearest_cells(vectors, vectors[_uniform(np.arange(200), 1) < 40 / 200], 3)
    met = (cells[:, None] == cells[None, :, :1]).any(axis=2)
    missed = int((near & ~(met | met.T)).sum())
    assert counted["sampled_pairs"] == 2 * near.sum() > 200
    assert counted["sampled_pairs_missed"] == 2 * missed < near.sum() * 0.1
    assert counted["pairs_compared"] < len(vectors) ** 2 / 4
    chosen, _ = representatives(vectors, THRESHOLD)
    exact = len(np.unique(chosen))
    assert exact <= counted["kept"] <= exact * 1.05


def test_shards_of_two_models_are_refused(tmp_path):
    write_shards(tmp_path / "e", None, unit_rows(3))
    write_shards(tmp_path / "o", None, unit_rows(3), fingerprint="b" * 64, model="old")
    patterns = [str(tmp_path / name / "*.parquet") for name in "eo"]
    with pytest.raises(UserError, match="old.*bbbb.*runs/mine/best.*aaaa"):
        main(["dedup", "--input", *patterns, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_finished_run_stays_and_an_unfinished_one_is_done_anew(tmp_path):
    pattern = write_shards(tmp_path / "e", ["a", "b", "a"], np.eye(3)[[0, 1, 0]])
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept-00004-of-00009.parquet").write_text("of fewer shards")
    main(["dedup", "--input", pattern, "--output", str(out)])
    assert [row["text"] for row in _table(out, "kept")] == ["a", "b"]
    with pytest.raises(UserError, match="holds a finished run"):
        main(["dedup", "--input", pattern, "--output", str(out)])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold=1.5"], "--threshold: expected above 0"),
        (["--cells=0"], "--cells: expected 1 or more"),
        (["--input", "nowhere/*.parquet"], "--input: no file matches nowhere"),
    ],
    ids=["threshold", "cells", "input"],
)
def test_a_mistake_is_told_before_anything_is_read(tmp_path, flags, message):
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match=message):
        main(["dedup", "--input", "x.parquet", "--output", out, *flags])


def test_another_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("no Parquet")
    with pytest.raises(UserError, match=r"x\.parquet: expected a Parquet file"):
        main(["dedup", "--input", str(path), "--output", str(tmp_path / "out")])


def test_what_is_read_or_anybodys_is_not_written_into(tmp_path):
    pattern = write_shards(tmp_path / "e", None, unit_rows(3))
    for output, message in (("e", "which holds part-0"), ("x", "not a directory")):
        (tmp_path / "x").write_text("a file")
        with pytest.raises(UserError, match=f"--output: .*{message}"):
            main(["dedup", "--input", pattern, "--output", str(tmp_path / output)])
