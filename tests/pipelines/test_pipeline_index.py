"""`pipeline index`: an index in segments, against one that `index build` writes."""

import numpy as np
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.index import main as index_main
from simcse_tf.indexing.index import Index
from simcse_tf.pipeline import main
from support.embedding_shards import unit_rows, write_shards


def _built(tmp_path, pattern, *flags):
    files = sorted(map(str, tmp_path.glob("e/*.parquet")))
    index_main(
        ["build", "--index", str(tmp_path / "one"), "--embeddings", *files, *flags]
    )
    main(["index", "--index", str(tmp_path / "many"), "--embeddings", pattern, *flags])
    return Index.open(tmp_path / "one"), Index.open(tmp_path / "many")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_segments_hold_what_one_index_holds(tmp_path, dtype):
    texts = [f"text {n}" for n in range(30)]
    pattern = write_shards(tmp_path / "e", texts, unit_rows(30), 3)
    one, many = _built(tmp_path, pattern, "--dtype", dtype)

    rows = np.arange(30)
    assert len(many.segments) == 3
    assert many.manifest.model_copy(update={"segments": one.manifest.segments}) == (
        one.manifest
    )
    np.testing.assert_array_equal(many.vectors(rows), one.vectors(rows))
    assert many.ids(rows) == one.ids(rows)
    assert many.texts(rows) == texts
