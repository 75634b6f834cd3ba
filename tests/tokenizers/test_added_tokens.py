"""Added tokens against the `tokenizers` package, whose semantics they have."""

import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import (
    AddedToken,
    added_tokens_of,
    tokenize_around,
)

BYTES = 256
# Each flag, tokens that begin another, that hold white space, and that need escaping.
TOKENS = [
    AddedToken("<s>", BYTES),
    AddedToken("<mask>", BYTES + 1, lstrip=True),
    AddedToken("<r>", BYTES + 2, rstrip=True),
    AddedToken("<b>", BYTES + 3, lstrip=True, rstrip=True),
    AddedToken("ab", BYTES + 4),
    AddedToken("abc", BYTES + 5),
    AddedToken("bcd", BYTES + 6),
    AddedToken(" x", BYTES + 7),
    AddedToken("é\\n.*", BYTES + 8),
    AddedToken("||", BYTES + 9),
]
LATE = [
    AddedToken("AbC", BYTES + 10, lstrip=True, normalized=True),
    AddedToken("bBc", BYTES + 11, normalized=True),
    AddedToken("<S>", BYTES + 12, rstrip=True, normalized=True),
    AddedToken("a<s", BYTES + 13, normalized=True),
]
WHITE_SPACE = " \t\n\v\f\r\x85\xa0\u1680\u2003\u2028\u3000"
NO_WHITE_SPACE = "\x1c\x1f\u200b\ufeff\0"


def reference(tokens, normalizer=None):
    """Bytes as ids; a space before each piece shows where one begins."""
    alphabet = byte_alphabet()
    model = tokenizers.models.BPE(
        {letter: byte for byte, letter in enumerate(alphabet)}, []
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=True, use_regex=False
    )
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    for token in tokens:
        settings = {key: getattr(token, key) for key in ("lstrip", "rstrip")}
        added = tokenizers.AddedToken(
            token.content, normalized=token.normalized, **settings
        )
        tokenizer.add_tokens([added])
        assert tokenizer.token_to_id(token.content) == token.id
    return tokenizer


def byte_alphabet():
    """The letter that stands for each byte in byte-level BPE."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (chr(point) for point in range(256, 512))
    return [chr(byte) if byte in shown else next(others) for byte in range(BYTES)]


def plain(text):
    begins_anew = ~tf.strings.regex_full_match(text, r"(?: \C*)?")
    spaced = tf.where(begins_anew, " " + text, text)
    characters = tf.strings.bytes_split(spaced)
    values = tf.io.decode_raw(characters.values, tf.uint8)
    return characters.with_values(tf.cast(tf.reshape(values, [-1]), tf.int32))


def ours_in_a_graph(tokens, plain=plain, **kwargs):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(text):
        return tokenize_around(text, tokens, plain, **kwargs)

    return tokenize


def theirs(texts, tokenizer):
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


texts = st.lists(
    st.lists(
        st.one_of(
            st.sampled_from([token.content for token in TOKENS + LATE]),
            st.text(alphabet=WHITE_SPACE, max_size=3),
            st.text(alphabet=NO_WHITE_SPACE + "<abcdABCsrmx>é\\n.*中", max_size=4),
        ),
        max_size=8,
    ).map("".join),
    max_size=4,
)


@pytest.fixture(scope="module")
def raw_pair():
    return ours_in_a_graph(TOKENS), reference(TOKENS)


@pytest.fixture(scope="module")
def normalized_pair():
    tokenize = ours_in_a_graph(
        TOKENS + LATE,
        normalize=tf.strings.lower,
        plain_normalized=plain,
        plain=lambda text: plain(tf.strings.lower(text)),
    )
    lowercase = tokenizers.normalizers.Lowercase()
    return tokenize, reference(TOKENS + LATE, lowercase)


@given(texts)
@settings(max_examples=60, deadline=None)
def test_any_text_is_taken_apart_as_by_the_reference(raw_pair, texts):
    tokenize, expected = raw_pair
    assert tokenize(tf.constant(texts, tf.string)).to_list() == theirs(texts, expected)


@given(texts)
@settings(max_examples=60, deadline=None)
def test_normalized_tokens_are_found_in_the_normalized_rest(normalized_pair, texts):
    tokenize, expected = normalized_pair
    assert tokenize(tf.constant(texts, tf.string)).to_list() == theirs(texts, expected)


@given(texts)
@settings(max_examples=50, deadline=None)
def test_without_a_normalizer_normalized_tokens_are_found_in_the_rest(texts):
    tokens = [token._replace(normalized=True) for token in TOKENS[:3]] + TOKENS[3:]
    text = tf.constant(texts, tf.string)
    assert tokenize_around(text, tokens, plain).to_list() == theirs(
        texts, reference(tokens)
    )


def test_bytes_that_are_not_utf8_count_as_python_decodes_them(raw_pair):
    tokenize, expected = raw_pair
    texts = [b"\xe4<s>\xff", b"\xf0\x9f<mask>\x98", b"\xff<s>\xff<s>", b"a \x85<mask>"]
    decoded = [text.decode("utf-8", errors="replace") for text in texts]
    assert tokenize(tf.constant(texts)).to_list() == theirs(decoded, expected)


def test_white_space_is_that_of_the_reference(raw_pair):
    tokenize, expected = raw_pair
    points = [*range(0x3100), 0xFEFF, 0xFFFD, 0xE0020]
    texts = [f"a{chr(point)}<b>{chr(point)}b" for point in points]
    assert tokenize(tf.constant(texts)).to_list() == theirs(texts, expected)


def test_many_tokens_keep_their_ids():
    tokens = [AddedToken(f"<{index}>", BYTES + index) for index in range(500)]
    texts = ["".join(token.content for token in tokens), "<7", "<77>x<777>"]
    text = tf.constant(texts)
    assert tokenize_around(text, tokens, plain).to_list() == theirs(
        texts, reference(tokens)
    )


def test_an_empty_batch_and_empty_texts():
    assert tokenize_around(tf.constant([], tf.string), TOKENS, plain).to_list() == []
    texts = tf.constant(["", "<s>", ""])
    assert tokenize_around(texts, TOKENS, plain).to_list() == [[], [BYTES], []]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"content": "", "id": 1}, "not empty; received ''"),
        ({"content": "\ud800", "id": 1}, "valid Unicode"),
        ({"content": "a\ufffd", "id": 1}, "valid Unicode"),
        ({"content": "a", "id": 3}, "an id below 3 for 'a'; received 3"),
        ({"content": "a", "id": 1, "single_word": True}, "expected the keys content"),
    ],
)
def test_a_token_that_cannot_be_found_is_refused(token, message):
    with pytest.raises(UserError, match=message):
        added_tokens_of([token], vocabulary_size=3)


def test_a_token_of_which_normalization_leaves_nothing_is_refused():
    tokens = [AddedToken("accent", 1, normalized=True)]
    nothing = tf.zeros_like
    with pytest.raises(UserError, match="nothing is left of 'accent'"):
        tokenize_around(tf.constant(["a"]), tokens, plain, nothing, plain)


def test_tokens_that_normalization_makes_the_same_are_refused():
    tokens = [AddedToken(c, i, normalized=True) for i, c in enumerate(("AbC", "aBc"))]
    lower = tf.strings.lower
    with pytest.raises(UserError, match="'AbC' and 'aBc' are the same once"):
        tokenize_around(tf.constant(["abc"]), tokens, plain, lower, plain)


def test_the_form_in_json_reads_back():
    checked = added_tokens_of([token._asdict() for token in TOKENS + LATE], 300)
    assert checked == (*TOKENS, *LATE)
