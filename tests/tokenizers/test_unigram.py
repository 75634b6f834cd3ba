"""XLM-RoBERTa's tokenizer against the `tokenizers` package, its reference."""

import base64
import io
import json
import random

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.texts import real_sentences
from tokenizers import normalizers, pre_tokenizers

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers import viterbi
from simcse_tf.tokenizers.added_tokens import AddedToken
from simcse_tf.tokenizers.graphemes import FILE, Class
from simcse_tf.tokenizers.metaspace import SPACES
from simcse_tf.tokenizers.sentencepiece_model import read_model
from simcse_tf.tokenizers.sentencepiece_model_pb2 import ModelProto
from simcse_tf.tokenizers.unigram import XLMRobertaTokenizer

NO_LIMIT = 10**8
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
SMALL = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁he", "llo", "<mask>"]
SMALL_SCORES = [0.0, 0.0, 0.0, 0.0, -3.0, -2.0, -2.5, 0.0]

ODDITIES = (
    "e\u0301 a\u0302\u0301 ﬁ\u0301 \u3000\u0301 ™ … ② ㌔ ½ ß İ \r\n \t\v\f\x85\xa0"
    "\u2028\u200b 한\u1112\u1161\u11ab\u0300 가\u0301 🇩🇪🇫 👩\u200d🔬 ©\u200d™\u0300 "
    "©\ufe0f 1\ufe0f\u20e3 क\u094dक\u0300 क़\u0301 \u0600a\u0301 ▁▁ ▁ \x00\x01 "
    "\ufeff\ufffd\ufffe\U0010ffff\ue000 日本語 ｶﾞ Ａ \u0e33\u0eb3 مُحَمَّد"
)


@pytest.fixture(scope="module")
def sentences(data_dir) -> list[str]:
    return real_sentences(data_dir)


@pytest.fixture(scope="module")
def model_file() -> bytes:
    """A Unigram model with nmt_nfkc, of English, odd characters and repetitions."""
    shuffled = random.Random(0)
    words = ["the", "a", "man", "is", "playing", "guitar", "women", "are", "dogs"]
    texts = [
        " ".join(shuffled.choices(words, k=6)) + shuffled.choice("ae!.") * (index % 9)
        for index in range(3000)
    ]
    texts += [" ".join(shuffled.sample(ODDITIES, 20)) for _ in range(300)]
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=file,
        vocab_size=300,
        hard_vocab_limit=False,
        character_coverage=0.999,
        minloglevel=2,
    )
    return file.getvalue()


@pytest.fixture(scope="module")
def ours(model_file) -> XLMRobertaTokenizer:
    return XLMRobertaTokenizer.from_sentencepiece(model_file)


def reference(tokenizer: XLMRobertaTokenizer) -> tokenizers.Tokenizer:
    """What transformers makes of the same model."""
    added = {token.content for token in tokenizer.added_tokens}
    # Special tokens that are plain text get names that no word holds.
    names = [
        f"\0 {token}" if token in SPECIAL_TOKENS and token not in added else token
        for token in tokenizer.vocabulary[: len(tokenizer.scores)]
    ]
    model = tokenizers.models.Unigram(
        list(zip(names, tokenizer.scores, strict=True)),
        unk_id=tokenizer.unk_token_id,
        byte_fallback=False,
    )
    result = tokenizers.Tokenizer(model)
    steps = []
    if tokenizer.charsmap:
        steps.append(normalizers.Precompiled(base64.b64decode(tokenizer.charsmap)))
    if tokenizer.spaces == "strip":
        steps.append(normalizers.Strip(left=False, right=True))
    if tokenizer.spaces in ("merge", "strip"):
        content = " " if tokenizer.spaces == "merge" else "▁"
        steps.append(normalizers.Replace(tokenizers.Regex(" {2,}"), content))
    if steps:
        result.normalizer = normalizers.Sequence(steps)
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    if tokenizer.spaces == "split":
        metaspace = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), metaspace]
        )
    result.pre_tokenizer = metaspace
    result.add_tokens(
        [
            tokenizers.AddedToken(
                token.content,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized,
            )
            for token in tokenizer.added_tokens
        ]
    )
    return result


def differences(ours, texts, theirs=None):
    """Texts whose ids are not those of the reference."""
    strings = [t if isinstance(t, str) else t.decode("utf-8", "replace") for t in texts]
    encodings = (theirs or reference(ours)).encode_batch_fast(
        strings, add_special_tokens=False
    )
    rows = ours(tf.constant(texts, tf.string), NO_LIMIT).to_list()
    return [
        text
        for text, row, encoding in zip(texts, rows, encodings, strict=True)
        if row != [0, *encoding.ids, 2]
    ]


# A part always, all of them where there is time.
@pytest.mark.slow
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.attack)])
def test_real_sentences_equal_reference(ours, sentences, every):
    assert len(sentences) == 58_607
    assert differences(ours, sentences[::every]) == []


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("has_charsmap", "spaces"),
    [
        *((True, spaces) for spaces in SPACES),
        (False, "split"),
        *(
            pytest.param(False, spaces, marks=pytest.mark.attack)
            for spaces in SPACES
            if spaces != "split"
        ),
    ],
)
def test_hostile_texts_equal_reference(ours, spaces, has_charsmap):
    charsmap = ours.charsmap if has_charsmap else None
    tokenizer = XLMRobertaTokenizer(ours.vocabulary, ours.scores, charsmap, spaces)
    shuffled = random.Random(1)
    marks = "".join(chr(c) for c in range(0x300, 0x310))
    alphabets = [ODDITIES, ODDITIES + marks, " ▁\t\u3000a\u0301", "ae!.", "aguitr "]
    texts = [
        "".join(shuffled.choices(alphabet, k=length))
        for length in range(30)
        for alphabet in alphabets
        for _ in range(10)
    ]
    texts += [c * length for c in "ae!.x日\u0301▁ " for length in (1, 2, 255, 256, 600)]
    texts += ["<s>", "a</s>b<mask>", "＜s＞", "", " ", ODDITIES]
    assert differences(tokenizer, texts) == []


nearly_utf8 = st.lists(
    st.one_of(
        st.binary(max_size=4),
        st.text(max_size=6).map(str.encode),
        st.text(alphabet=ODDITIES, max_size=8).map(str.encode),
        st.sampled_from([b"\xe4\xb8", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80"]),
    ),
    max_size=8,
).map(b"".join)


@pytest.fixture(scope="module")
def theirs(ours):
    return reference(ours)


@pytest.mark.slow
@given(st.lists(nearly_utf8, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_bytes_equal_reference(ours, theirs, texts):
    assert differences(ours, texts, theirs) == []


@pytest.mark.slow
def test_clusters_of_every_class_equal_reference(ours):
    with np.load(FILE) as arrays:
        classes = arrays["classes"]
    points = [
        [
            c
            for c in np.flatnonzero(classes == name).tolist()
            if not 0xD800 <= c < 0xE000
        ]
        for name in Class
    ]
    shuffled = random.Random(2)
    texts = [
        "".join(
            chr(shuffled.choice(shuffled.choice(points)))
            + shuffled.choice(["", "\u0300"])
            for _ in range(6)
        )
        for _ in range(5000)
    ]
    assert differences(ours, texts) == []


@pytest.mark.slow
def test_added_tokens_equal_reference(ours):
    added = [
        AddedToken(token, ours.vocabulary.index(token)) for token in SPECIAL_TOKENS[:4]
    ]
    added += [
        AddedToken("<mask>", len(ours.vocabulary) - 1, lstrip=True),
        AddedToken("Bär", len(ours.vocabulary), normalized=True),
    ]
    tokenizer = XLMRobertaTokenizer(
        [*ours.vocabulary, "Bär"], ours.scores, ours.charsmap, added_tokens=added
    )
    texts = [
        "a <mask> man</s>",
        "<s><s>",
        "Ba\u0308r Bär ba",
        "＜s＞ dogs ＜unk＞x",
        "the",
    ]
    assert differences(tokenizer, texts) == []
    assert tokenizer(["<mask>"], 8).to_list() == [[0, len(ours.vocabulary) - 1, 2]]
    assert ours(["<mask>"], 8).to_list() != tokenizer(["<mask>"], 8).to_list()


def test_ties_go_to_the_longer_last_piece():
    pieces = [np.array([1]), np.array([1, 1]), np.array([1, 1, 1])]
    segment = viterbi.Viterbi(pieces, [-2.0, -2.0, -2.0], -12.0, alphabet=3)
    words = tf.ragged.constant([[1] * 4, [2, 2], [1] * 7], row_splits_dtype=tf.int64)
    assert segment(words).to_list() == [[0, 2], [-1, -1], [0, 2, 2]]


def test_special_tokens_in_a_text_are_plain_text():
    tokenizer = XLMRobertaTokenizer(SMALL, SMALL_SCORES)
    assert tokenizer(["<s>he</s>", ""], 8).to_list() == [[0, 4, 3, 2], [0, 2]]
    assert tokenizer.special_token_ids == (1, 0, 2)
    assert tokenizer.mask_token_id == 7


def test_rows_are_cut_before_the_last_token(ours):
    texts = ["a man is playing the guitar " * 5, "x" * 50]
    whole = ours(texts, NO_LIMIT).to_list()
    assert ours(texts, 6).to_list() == [
        row if len(row) <= 6 else [*row[:5], 2] for row in whole
    ]
    assert ours(tf.constant([], tf.string), 8).to_list() == []


def test_saved_model_gives_the_same_ids(ours, tmp_path):
    texts = ["a man", ODDITIES, "", "e\u0301" * 40]
    module = tf.Module()
    module.tokenizer = ours._tokenize
    module.serve = tf.function(
        lambda text: ours(text, 32).to_tensor(),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serve": module.serve})
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serve"]
    (ids,) = loaded(text=tf.constant(texts)).values()
    assert ids.numpy().tolist() == ours(texts, 32).to_tensor().numpy().tolist()


def test_config_and_keras_hub_give_the_same_tokenizer_again(ours, model_file):
    config = json.loads(json.dumps(ours.get_config()))
    assert XLMRobertaTokenizer(ours.vocabulary, **config).get_config() == config
    assert read_model(ours.to_sentencepiece()) == read_model(model_file)

    spaces = XLMRobertaTokenizer(
        ours.vocabulary, ours.scores, ours.charsmap, "strip", [AddedToken("<s>", 0)]
    )
    hub = spaces.to_keras_hub()
    back = XLMRobertaTokenizer.from_keras_hub(hub, **spaces.settings())
    assert (back.vocabulary, back.get_config()) == (
        spaces.vocabulary,
        spaces.get_config(),
    )
    assert hub.get_vocabulary() == ours.vocabulary
    assert "scores" not in spaces.settings()
    texts = ["a man is playing the guitar", "two dogs"]
    assert tf.ragged.constant(
        [row[1:-1] for row in ours(texts, 64).to_list()]
    ).to_list() == [np.asarray(hub(text)).tolist() for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("scored", [0, 1])
def test_tokens_behind_mask_survive_keras_hub(scored):
    vocabulary = [*SMALL, "▁Bär", "<q>"]
    tokenizer = XLMRobertaTokenizer(
        vocabulary,
        [*SMALL_SCORES, *[-1.5] * scored],
        added_tokens=[AddedToken("<q>", 9), AddedToken("<s>", 0)],
    )
    stored = json.loads(json.dumps(tokenizer.settings()))
    assert ("scores" in stored) == bool(scored)
    back = XLMRobertaTokenizer.from_keras_hub(tokenizer.to_keras_hub(), **stored)
    assert back.vocabulary == vocabulary
    assert back.get_config() == tokenizer.get_config()
    texts = ["hello Bär<q>", "<s>he"]
    bear = [8] if scored else [4, 3]
    expected = [[0, 5, 6, *bear, 9, 2], [0, 0, 5, 2]]
    assert back(texts, 16).to_list() == tokenizer(texts, 16).to_list() == expected


def test_scores_that_are_not_float32_survive(ours):
    scores = [score * 1.1 for score in ours.scores]
    tokenizer = XLMRobertaTokenizer(ours.vocabulary, scores, ours.charsmap)
    hub = tokenizer.to_keras_hub()
    back = XLMRobertaTokenizer.from_keras_hub(hub, **tokenizer.settings())
    assert back.scores == tokenizer.scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": SMALL[1:]}, "no <s> in it"),
        ({"vocabulary": [*SMALL[:-1], "llo"]}, "'llo' is there twice, at 6 and 7"),
        ({"vocabulary": [*SMALL[:-1], ""]}, "not empty"),
        ({"scores": SMALL_SCORES[:2]}, "received 2"),
        ({"scores": [*SMALL_SCORES[:-1], float("nan")]}, "scores: expected"),
        ({"charsmap": "?"}, "charsmap: expected base64"),
        ({"charsmap": "AAAA"}, "charsmap: expected the precompiled_charsmap"),
        ({"spaces": "first"}, "spaces: expected one of split"),
    ],
)
def test_what_is_no_tokenizer_is_refused(change, message):
    arguments = {"vocabulary": SMALL, "scores": SMALL_SCORES, **change}
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        XLMRobertaTokenizer(**arguments)


@pytest.mark.parametrize(
    ("spec", "field", "value", "message"),
    [
        ("trainer_spec", "model_type", 2, "model_type is 2"),
        ("trainer_spec", "byte_fallback", True, "byte_fallback is True"),
        ("normalizer_spec", "add_dummy_prefix", False, "add_dummy_prefix is False"),
    ],
)
def test_other_sentencepiece_models_are_refused(
    model_file, spec, field, value, message
):
    model = ModelProto.FromString(model_file)
    setattr(getattr(model, spec), field, value)
    with pytest.raises(UserError, match=message):
        XLMRobertaTokenizer.from_sentencepiece(model.SerializeToString())


def test_broken_files_and_other_vocabularies_are_refused(model_file):
    with pytest.raises(UserError, match="expected the bytes of such a file"):
        XLMRobertaTokenizer.from_sentencepiece(b"\xff\xff\xff")
    model = ModelProto.FromString(model_file)
    model.pieces[5].type = ModelProto.SentencePiece.USER_DEFINED
    with pytest.raises(UserError, match="of type USER_DEFINED; expected NORMAL"):
        XLMRobertaTokenizer.from_sentencepiece(model.SerializeToString())
    with pytest.raises(UserError, match="ends with <mask>"):
        XLMRobertaTokenizer(SMALL[:-1], SMALL_SCORES[:-1]).to_sentencepiece()
    with pytest.raises(UserError, match="the 7 tokens before <mask>; received 6"):
        XLMRobertaTokenizer(SMALL, SMALL_SCORES[:-2]).to_sentencepiece()


@pytest.mark.parametrize("max_length", [1, 2.0])
def test_wrong_arguments_are_refused(max_length):
    tokenizer = XLMRobertaTokenizer(SMALL, SMALL_SCORES)
    with pytest.raises(UserError, match="max_length must be an int of at least 2"):
        tokenizer(["a"], max_length)
    with pytest.raises(UserError, match=r"of shape \[n\]"):
        tokenizer("a", 8)
