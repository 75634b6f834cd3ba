"""`pipeline index`: an index in segments, against one that `index build` writes."""

import numpy as np
import pytest
from support.embedding_shards import unit_rows, write_shards

from simcse_tf.core.errors import UserError
from simcse_tf.index import main as index_main
from simcse_tf.indexing.index import Index
from simcse_tf.pipeline import main
from simcse_tf.pipelines import index_building


def _built(tmp_path, pattern, *flags):
    files = sorted(map(str, tmp_path.glob("e/*.parquet")))
    index_main(
        ["build", "--index", str(tmp_path / "one"), "--embeddings", *files, *flags]
    )
    main(["index", "--index", str(tmp_path / "many"), "--embeddings", pattern, *flags])
    return Index.open(tmp_path / "one"), Index.open(tmp_path / "many")


def test_segments_hold_what_one_index_holds(tmp_path):
    texts = [f"text {n}" for n in range(30)]
    # A whole number here is one of others there; not every file has each column.
    metadata = (
        {"stars": list(range(10)), "zip": ["01067"] * 10},
        {"stars": [0.5] * 10, "new": [True] * 10},
        {"stars": [None] * 10},
    )
    pattern = write_shards(tmp_path / "e", texts, unit_rows(30), 3, metadata=metadata)
    one, many = _built(tmp_path, pattern, "--dtype", "int8")

    rows = np.arange(30)
    assert len(many.segments) == 3
    assert many.manifest.model_copy(update={"segments": one.manifest.segments}) == (
        one.manifest
    )
    assert many.metadata(rows) == one.metadata(rows)
    assert many.metadata(np.array([3]))[0]["stars"] == 3.0
    np.testing.assert_array_equal(many.vectors(rows), one.vectors(rows))
    assert many.ids(rows) == one.ids(rows)
    assert many.texts(rows) == texts
    # Nothing else is left.
    assert {p.name for p in (tmp_path / "many").glob("segments/*/*")} == {
        "vectors.npy",
        "records.arrow",
    }
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.slow
def test_lists_filled_in_parts_are_those_of_one_process(tmp_path):
    pytest.importorskip("faiss")
    vectors = unit_rows(10_000, dim=4)
    pattern = write_shards(tmp_path / "e", None, vectors, 3, row_group=4000)
    one, many = _built(tmp_path, pattern, "--kind", "ivfpq")

    files = [i.directory / i.manifest.candidates.file.path for i in (one, many)]
    assert many.manifest.candidates == one.manifest.candidates
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [p.name for p in files[1].parent.iterdir()] == [files[1].name]


def test_an_id_in_two_files_is_refused_with_both_rows(tmp_path):
    ids = ["a", "b", "c", "a"]
    pattern = write_shards(tmp_path / "e", None, unit_rows(4), 2, ids)
    with pytest.raises(UserError) as error:
        main(["index", "--index", str(tmp_path / "i"), "--embeddings", pattern])
    assert "part-00000-of-00002.parquet, row 1, and" in str(error.value)
    assert "part-00001-of-00002.parquet, row 2, both" in str(error.value)
    assert not (tmp_path / "i").exists()


def test_segments_of_a_try_that_was_stopped_are_used_again(tmp_path, monkeypatch):
    pattern = write_shards(tmp_path / "e", None, unit_rows(20), 2)
    target = tmp_path / "i"
    with monkeypatch.context() as patch:
        patch.setattr(index_building, "with_joined_lists", _stop)
        with pytest.raises(KeyboardInterrupt):
            index_building.build_in_segments(target, [pattern], [])
    assert not target.exists()
    # One file is another meanwhile.
    write_shards(tmp_path / "new", None, unit_rows(10, seed=1), 1, list("abcdefghij"))
    [new] = tmp_path.glob("new/*.parquet")
    new.replace(tmp_path / "e" / "part-00001-of-00002.parquet")

    manifest, again = index_building.build_in_segments(target, [pattern], [])
    assert (manifest.rows, again) == (20, 1)
    index = Index.open(target)
    assert index.ids(np.arange(20))[-1] == "j"


def _stop(*_):
    raise KeyboardInterrupt
