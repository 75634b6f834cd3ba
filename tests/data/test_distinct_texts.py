import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.data.augmentation import word_augmenter
from simcse_tf.data.distinct_texts import DistinctTexts
from simcse_tf.data.mixture import Mixture, Part
from simcse_tf.data.positives import AugmentedSource, NextSentenceSource
from simcse_tf.data.sources import open_source
from simcse_tf.objectives.text_embeddings import fingerprints


class Rows:
    """A source of rows in memory."""

    skipped = 0
    notes = ()
    varies = False
    scored = False

    def __init__(self, rows, columns):
        self.rows = rows
        self.columns = columns

    def __len__(self):
        return len(self.rows)

    def read(self, indices, epoch=0):
        return [self.rows[index] for index in indices]


def texts_of(source, start=0):
    return [text for block in DistinctTexts(source).blocks(start) for text in block]


words = st.sampled_from([b"a", b"b", b"c d", b"\xff", b"e" * 50])


@given(
    st.lists(st.tuples(words, words, words | st.just(b"")), min_size=1), st.booleans()
)
@settings(deadline=None, max_examples=40)
def test_every_text_is_there_once_but_for_hard_negatives_that_are_lacking(rows, scored):
    given = [(*row, b"4.2") for row in rows] if scored else rows
    found = texts_of(Rows(given, 3))
    assert sorted(found) == sorted({text for row in rows for text in row} - {b""})
    marks = fingerprints(found)
    assert (np.diff(marks.astype(object)) > 0).all()
    assert texts_of(Rows(given, 3), start=1) == found[1:]


def test_the_digest_follows_from_the_texts_and_not_from_their_order():
    rows = [(b"a", b"b"), (b"b", b"c")]
    digest = DistinctTexts(Rows(rows, 2)).digest
    assert DistinctTexts(Rows([(b"c",), (b"a",), (b"b",)], 1)).digest == digest
    assert DistinctTexts(Rows(rows[:1], 2)).digest != digest


def test_more_rows_than_a_block_are_all_read():
    rows = [(b"%d" % (i % 20_000),) for i in range(40_000)]
    assert len(DistinctTexts(Rows(rows, 1))) == 20_000


def test_of_drawn_positives_the_sentences_are_read_that_they_come_from(tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("a b\nc d\n\ne f\n")
    all_texts = [b"a b", b"c d", b"e f"]
    sentences = open_source(str(path))
    made = AugmentedSource(sentences, word_augmenter("crop"), 0)
    for source in (sentences, made, NextSentenceSource(str(path), 1, 0)):
        assert sorted(texts_of(source)) == all_texts


def test_of_a_mixture_all_is_read_that_any_epoch_may_hold():
    pairs = Rows([(b"a", b"b"), (b"c", b"d"), (b"e", b"f"), (b"g", b"h")], 2)
    triplets = Rows([(b"a", b"i", b""), (b"b", b"j", b"k")], 3)
    parts = [Part("p", pairs, 0.25), Part("t", triplets, 3)]
    found = texts_of(Mixture(parts))
    assert sorted(found) == [bytes([code]) for code in b"abcdefghijk"]
