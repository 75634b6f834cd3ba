"""The words of byte-level BPE against the `tokenizers` package."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.tokenizers.byte_level_words import WordSplitter
from simcse_tf.tokenizers.character_classes import character_classes

reference = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str


@pytest.fixture(scope="module")
def split():
    splitter = WordSplitter()
    function = tf.function(
        splitter, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )
    return lambda texts: [
        [word.decode() for word in row]
        for row in function(tf.constant(texts, tf.string)).to_list()
    ]


def expected(texts):
    return [[text[slice(*span)] for _, span in reference(text)] for text in texts]


def test_the_code_points_at_each_change_of_class_split_as_in_the_reference(split):
    starts = np.flatnonzero(np.diff(character_classes(), prepend=-1))
    points = np.unique([starts - 1, starts, starts + 1]).tolist()
    rows = [
        f"{c}a{c}1{c}! {c} a{c}\n{c}{c}"
        for c in map(chr, points[1:])
        if not "\ud800" <= c < "\ue000"
    ]
    assert len(rows) > 2000
    assert split(rows) == expected(rows)


def test_every_short_text_of_a_contraction_splits_as_in_the_reference(split):
    texts = [
        "".join(characters)
        for length in range(1, 6)
        for characters in itertools.product("'srel \n", repeat=length)
    ]
    texts += [f"{a}'{b}{c}" for a in "a1! \t'" for b in "sStmdvrlx" for c in "selx' "]
    assert split(texts) == expected(texts)


@given(
    st.lists(
        st.text(alphabet="aé1²! \n\t\u3000\x85\x1c'srevl\u0301中\0", max_size=20),
        max_size=20,
    )
)
@settings(max_examples=80, deadline=None)
def test_any_texts_split_as_in_the_reference(split, texts):
    assert split(texts) == expected(texts)


def test_neighbours_in_a_batch_do_not_matter(split):
    texts = ["a", "", "'", "s", " ", " ", "'", "re", "'r", "e", "", "x "]
    assert split(texts) == expected(texts)
    assert split([]) == []
