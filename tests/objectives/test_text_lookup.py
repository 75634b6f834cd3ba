import copy
import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kept_embeddings import keep, unit_rows

from simcse_tf.core.errors import UserError
from simcse_tf.objectives.text_embeddings import (
    EMBEDDINGS_FILE,
    FINGERPRINTS_FILE,
    TextEmbeddings,
    fingerprints,
)

TEXTS = [b"a", b"b", "é".encode(), b"\xff", b"a man plays " * 40]
ROWS = unit_rows(TEXTS)


@pytest.fixture
def known(tmp_path):
    return keep(tmp_path / "kept", ROWS)


@given(
    texts=st.lists(st.binary(min_size=1, max_size=20), min_size=2, unique=True),
    picks=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1),
)
@settings(deadline=None, max_examples=40)
def test_each_text_has_its_own_embedding_whatever_the_batch(
    tmp_path_factory, texts, picks
):
    rows = unit_rows(texts)
    known = keep(tmp_path_factory.mktemp("kept"), rows)
    batch = [[texts[pick % len(texts)] for pick in pair] for pair in picks]
    found = known.look_up(np.array(batch, object))
    np.testing.assert_array_equal(found, [[rows[a], rows[b]] for a, b in batch])


def test_a_pipeline_gets_them_with_a_static_shape(known):
    columns = tf.data.Dataset.from_tensor_slices((TEXTS[:4], TEXTS[1:5]))
    batches = columns.batch(2, drop_remainder=True)
    [one, other] = batches.map(lambda *texts: known.of_batch(texts))
    assert one.shape == (2, 2, 5)
    np.testing.assert_array_equal(other[1, 0], ROWS[b"\xff"])


def test_a_hard_negative_that_a_row_lacks_has_zeros(known):
    found = known.look_up(np.array([[b"a", b"b", b"", b"b"]], object))
    assert not found[0, 2].any()
    np.testing.assert_array_equal(found[0, 3], ROWS[b"b"])


@pytest.mark.parametrize("texts", [[b"never seen"], [b"a", b""], [b"A"], [b"a "]])
def test_a_text_that_is_not_known_is_an_error_and_never_zeros(known, texts):
    with pytest.raises(UserError, match="holds no embedding of the text"):
        known.look_up(np.array([texts], object))


def test_what_a_pipelines_lookup_raises_is_kept_for_the_message(known):
    with pytest.raises(tf.errors.OpError):
        data = tf.data.Dataset.from_tensors(["no"])
        list(data.map(lambda texts: known.of_batch([texts])))
    assert "no embedding of the text" in str(known.problems[0])


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))]
)
def test_a_copy_reads_the_same_files(known, make):
    batch = np.array([[b"b"]], object)
    before = known.look_up(batch)
    twin = make(known)
    del known
    np.testing.assert_array_equal(twin.look_up(batch), before)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(known):
    batch = np.array([[text] for text in TEXTS], object)
    known.look_up(batch)
    os.truncate(known.directory / EMBEDDINGS_FILE, 140)
    with pytest.raises(UserError, match="embeddings.npy is not as it was written"):
        known.look_up(batch)


def _cut(path):
    os.truncate(path, path.stat().st_size - 1)


def _of_another_kind(path):
    np.save(path, np.zeros((len(TEXTS), 2), "float16"))


@pytest.mark.parametrize("name", [FINGERPRINTS_FILE, EMBEDDINGS_FILE])
@pytest.mark.parametrize("damage", [_cut, _of_another_kind])
def test_damaged_files_are_an_error(known, name, damage):
    damage(known.directory / name)
    with pytest.raises(UserError, match=f"{name} is not as it was written"):
        known.look_up(np.array([[b"a"]], object))


@pytest.mark.parametrize("name", [FINGERPRINTS_FILE, EMBEDDINGS_FILE])
def test_missing_files_are_an_error(known, name):
    (known.directory / name).unlink()
    with pytest.raises(UserError, match=f"cannot read .*{name}"):
        known.look_up(np.array([[b"a"]], object))


def test_embeddings_of_another_width_are_an_error(known):
    with pytest.raises(UserError, match="not as it was written"):
        TextEmbeddings(known.directory, 4).look_up(np.array([[b"a"]], object))


def test_fingerprints_are_those_that_files_hold_for_ever():
    assert fingerprints([b"", b"A man plays."]).tolist() == [
        13020603013274838756,
        13984409601830955797,
    ]
