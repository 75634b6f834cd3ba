"""SentencePiece's BPE with our model against the BPE of the `tokenizers` package."""

import numpy as np
import pytest
import tensorflow_text as tf_text
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.tokenizers.byte_pair_model import (
    UNKNOWN,
    byte_characters,
    sentencepiece_model,
)

CHARACTERS = byte_characters()


def reference(tokens, merges):
    ids = {token: index for index, token in enumerate(tokens)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(ids, merges))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    return model


def tokenized(tokens, merges, texts):
    model, pieces = sentencepiece_model(tokens, merges)
    ids = tf_text.SentencepieceTokenizer(model).tokenize(texts)
    return [[pieces[piece] for piece in row] for row in ids.to_list()]


@st.composite
def any_merges(draw):
    """Merges in any order, of tokens that may never come up, some of them twice."""
    tokens = list(draw(st.sampled_from(["a", "ab", "abc"])))
    merges = []
    for _ in range(draw(st.integers(1, 12))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        merges.append(pair)
        if "".join(pair) not in tokens:
            tokens.append("".join(pair))
    if draw(st.booleans()):
        merges = draw(st.permutations(merges))
    return tokens, merges


@pytest.mark.slow
@given(any_merges(), st.lists(st.text(alphabet="aaabbc", max_size=30), max_size=30))
@settings(max_examples=80, deadline=None)
def test_any_merges_in_any_order_give_the_tokens_of_the_reference(bpe, texts):
    tokens, merges = bpe
    expected = [reference(tokens, merges).encode(text).tokens for text in texts]
    assert tokenized(tokens, merges, np.array(texts, object)) == expected


def test_a_token_that_its_own_text_does_not_give_is_no_piece():
    # "abc" would be "a" and "bc", but "ab" comes first.
    merges = [("a", "b"), ("b", "c"), ("a", "bc")]
    _, pieces = sentencepiece_model(["a", "b", "c", "ab", "bc", "abc"], merges)
    assert pieces == [UNKNOWN, "a", "b", "c", "ab", "bc"]


def test_of_two_pairs_for_one_token_the_one_that_comes_up_gives_the_rank():
    merges = [("b", "c"), ("c", "d"), ("a", "b"), ("ab", "c"), ("a", "bc")]
    tokens = ["a", "b", "c", "d", "bc", "cd", "ab", "abc"]
    texts = ["abc", "abcd", "cdabc", "ab"]
    expected = [reference(tokens, merges).encode(text).tokens for text in texts]
    assert tokenized(tokens, merges, texts) == expected
    assert expected[0] == ["abc"]


def test_each_byte_is_the_character_of_the_reference():
    alphabet = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert set(CHARACTERS.values()) == alphabet
    model, pieces = sentencepiece_model(CHARACTERS.values(), [])
    ids = tf_text.SentencepieceTokenizer(model).tokenize([bytes(range(256))])
    assert [pieces[piece] for piece in ids.to_list()[0]] == [
        CHARACTERS[byte] for byte in range(256)
    ]
    text = "".join(map(chr, range(0x800))) + "中\U0001f600"
    assert reference(CHARACTERS.values(), []).encode(text).tokens == [
        CHARACTERS[byte] for byte in text.encode()
    ]


@pytest.mark.parametrize("missing", ["x", "Ġ", "Ã", "Ā"])
def test_a_byte_without_a_token_vanishes_as_in_the_reference(missing):
    tokens = [c for c in CHARACTERS.values() if c != missing] + ["ab"]
    texts = ["axb", "a b", "aéb", "a\0b", "ab", "x", " ", ""]
    expected = [reference(tokens, [("a", "b")]).encode(text).tokens for text in texts]
    assert tokenized(tokens, [("a", "b")], texts) == expected
