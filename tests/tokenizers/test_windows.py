"""The ids of a long text do not depend on the windows that it is read in."""

import base64
import io
import itertools

import pytest
import sentencepiece
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.texts import BROKEN
from tokenizers import normalizers, pre_tokenizers

from simcse_tf.tokenizers import batch, windows
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer
from simcse_tf.tokenizers.byte_pair_model import byte_characters
from simcse_tf.tokenizers.sentencepiece_model import read_model
from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer

NO_LIMIT = 10**8
# Bytes read at once, bytes for an id, and the smallest window.
UNCUT = (1 << 30, 16, 1 << 30)
# The first and the last of these.
SMALL = [(16, 5), (64, 11), (300, 16)]

WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b", "##ab", "!"]
WORDPIECES += ["中", "ᄀ", "##ᅡ", "re", "##\u0bbe", "##\u0f71\u0f72"]
MERGES = ["a b", "ab ab", "b a", "Ġ a", "abab ab", "Ġ Ġ", "ĠĠ ĠĠ", "a a", "aa a"]
MERGES += ["ab a", "' s", "aba abab"]
PIECES = {"▁": -2.0, "a": -3.0, "b": -3.5, "ab": -4.0, "aba": -6.25, "▁a": -3.75}
PIECES |= {"bbb": -9.0, "ababab": -8.5, "\u0301": -7.0, "中": -5.0, "\n": -4.0}

ALPHABETS = [
    "ab",
    "a ",
    "ab ",
    "a's re",
    "a\u0301\u200b ",
    "a\u200b\u0301\u0bbe",
    "▁a ",
]
ALPHABETS += [
    "a!中 ",
    "\u0f71\u0f72a\u0301\u1e9b",
    "\u1100\u1161\u11a8",
    "\n\t \u3000a",
]
ALPHABETS += ["\U0001f469\u200d\U0001f52c\u0301", "\ufffd\ue000 ", "\ue000\ue001ab"]
TOKENS = [b"[SEP]", b" <s> ", b"<s>", b"'s", b"'re", b"'"]


@st.composite
def long_texts(draw) -> bytes:
    """Runs of a few characters, mixed with broken UTF-8 and added tokens."""

    def part() -> bytes:
        kind = draw(st.integers(0, 4))
        if kind == 0:
            return draw(st.sampled_from([*TOKENS, *BROKEN])) * draw(st.integers(1, 9))
        alphabet = draw(st.sampled_from(ALPHABETS))
        some = draw(st.text(alphabet, min_size=1, max_size=12))
        return (some * draw(st.sampled_from([1, 2, 9, 40]))).encode()

    return b"".join(part() for _ in range(draw(st.integers(1, 5))))


@pytest.fixture(scope="module")
def charsmap() -> bytes:
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b", "ab"] * 9),
        model_writer=file,
        vocab_size=9,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return read_model(file.getvalue()).charsmap


@pytest.fixture(scope="module")
def makers(charsmap):
    """A function that makes a tokenizer, for each kind."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    merged = [merge.replace(" ", "") for merge in MERGES]
    bytes_ = [*byte_characters().values()]
    added = [{"content": "<s>", "id": 0, "lstrip": True}]
    mapped = base64.b64encode(charsmap).decode()
    vocabulary, scores = [*special, *PIECES], [0.0] * 4 + [*PIECES.values()]

    def unigram(charsmap, spaces):
        return lambda: XLMRobertaTokenizer(vocabulary, scores, charsmap, spaces, added)

    return {
        "uncased": lambda: BertTokenizer(
            WORDPIECES, added_tokens=[{"content": "[SEP]", "id": 3}]
        ),
        "cased": lambda: BertTokenizer(WORDPIECES, lowercase=False),
        "bpe": lambda: RobertaTokenizer(
            [*special, *bytes_, *merged], MERGES, added_tokens=added
        ),
        "bpe, few bytes": lambda: RobertaTokenizer(
            [*special, "a", "b", "Ġ", *merged[:6]], MERGES[:6], add_prefix_space=True
        ),
        "unigram, split": unigram(mapped, "split"),
        "unigram, merge": unigram(mapped, "merge"),
        "unigram, strip": unigram(mapped, "strip"),
        "unigram, keep": unigram(None, "keep"),
    }


# One of each way through a text always, all of them where there is time.
KINDS = ["uncased", "bpe", "bpe, few bytes", "unigram, split", "unigram, keep"]
KINDS += [
    pytest.param(kind, marks=pytest.mark.attack)
    for kind in ("cased", "unigram, merge", "unigram, strip")
]


def traced(make, budget, bytes_per_id, smallest):
    """A tokenizer with windows of that size. They are read when it is traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BUDGET", budget)
        patch.setattr(windows, "BYTES_PER_ID", bytes_per_id)
        patch.setattr(windows, "SMALLEST_WINDOW", smallest)
        tokenizer = make()
        tokenizer(["a"], 3)
    return tokenizer


@pytest.fixture(scope="module")
def pair_of(makers):
    made = {}
    sizes = itertools.cycle(SMALL)

    def pair(kind):
        if kind not in made:
            budget, smallest = next(sizes)
            made[kind] = (
                traced(makers[kind], *UNCUT),
                traced(makers[kind], budget, 1, smallest),
            )
        return made[kind]

    return pair


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_windows_do_not_change_the_ids(pair_of, kind):
    uncut, cut = pair_of(kind)

    @settings(max_examples=5, deadline=None)
    @given(
        texts=st.lists(long_texts(), min_size=1, max_size=6),
        max_length=st.sampled_from([2, 3, 5, 20, 60, NO_LIMIT]),
    )
    def check(texts, max_length):
        strings = tf.constant(texts)
        expected = uncut(strings, max_length).to_list()
        assert cut(strings, max_length).to_list() == expected
        # One more is read to learn whether there is more.
        longer = cut(strings, max_length + 1)
        rows = batch.cut(longer, max_length, cut.sep_token_id)
        assert rows.to_list() == expected

    check()


# What costs a tokenizer most, or has no end of a word in it.
HOSTILE = {
    "words": "so a man is ",
    "one word": "a",
    "two letters": "ab",
    "white space": " ",
    "line breaks": "\n\t",
    "marks": "\u0301",
    "letters with marks": "a\u0301",
    "spacing marks": "\u0bbe",
    "nothing": "\u200b",
    "letters and nothing": "a\u200b",
    "controls": "\x01",
    "emoji": "\U0001f469\u200d\U0001f52c",
    "Chinese": "中",
    "Hangul": "한",
    "private": "\ue000",
    "signs": "!",
    "quotes": "'s",
    "a special token": "<s>[SEP]",
    "not UTF-8": "\udcff",
    "half a character": "\udce4",
}


def hostile(part: str, size: int) -> bytes:
    data = part.encode(errors="surrogateescape")
    return data * (size // len(data)) + b" ab"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uncased", "bpe", "unigram, split"])
def test_ids_of_long_texts_are_those_of_the_reference(makers, kind):
    tokenizer = makers[kind]()
    texts = [hostile(part, 30_000) for part in HOSTILE.values()]
    decoded = [text.decode(errors="replace") for text in texts]
    rows = tokenizer(tf.constant(texts), 512).to_list()
    expected = reference(tokenizer).encode_batch_fast(decoded, add_special_tokens=False)
    for name, row, encoding in zip(HOSTILE, rows, expected, strict=True):
        assert row[1:-1] == encoding.ids[:510], name


def reference(ours) -> tokenizers.Tokenizer:
    ids = {token: index for index, token in enumerate(ours.vocabulary)}
    if isinstance(ours, BertTokenizer):
        model = tokenizers.models.WordPiece(ids, unk_token="[UNK]")
        theirs = tokenizers.Tokenizer(model)
        theirs.normalizer = normalizers.BertNormalizer()
        theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif isinstance(ours, RobertaTokenizer):
        merges = [tuple(merge.split(" ")) for merge in ours.merges]
        theirs = tokenizers.Tokenizer(tokenizers.models.BPE(ids, merges))
        theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pieces = [*zip(ours.vocabulary, ours.scores, strict=True)]
        model = tokenizers.models.Unigram(pieces, unk_id=ours.unk_token_id)
        theirs = tokenizers.Tokenizer(model)
        theirs.normalizer = normalizers.Precompiled(base64.b64decode(ours.charsmap))
        theirs.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
    for token in ours.added_tokens:
        named = {"lstrip": token.lstrip, "normalized": token.normalized}
        theirs.add_tokens([tokenizers.AddedToken(token.content, **named)])
    return theirs
