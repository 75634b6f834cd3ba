"""RoBERTa's in-graph tokenizer against the `tokenizers` package, its reference."""

import json
import os
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forked import run_script
from support.texts import BROKEN, nearly_utf8, real_sentences

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import AddedToken
from simcse_tf.tokenizers.byte_level_bpe import RobertaTokenizer, tokens_by_id

ROOT = Path(__file__).parents[2]
NO_LIMIT = 10**8
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SMALL = [*SPECIAL, "a", "t", "Ġ", "at", "Ġat"]
MERGES = ["a t", "Ġ at"]
ADDED = [
    AddedToken("<s>", 0),
    AddedToken("</s>", 2),
    AddedToken("<mask>", 4, lstrip=True),
]
# Where byte-level BPE and Unicode are known to trip tokenizers up.
ODDITIES = (
    "It's they'll we've I'd I'm you're 's''t'S \t\n\x85\xa0\u2028\u3000\x1c\u200b\0"
    "١²Ⅷ½ 12 3.5 é\u0301中文한👩\u200d🔬🇩🇪\ufe0f\ufeff\ufffd\ufffe\U0010ffff<mask>"
    "İıﬁ_-ĠĊ▁"
)


def reference(vocabulary, merges, add_prefix_space=False, added_tokens=()):
    ids = {token: index for index, token in enumerate(vocabulary)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ids, pairs))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=add_prefix_space
    )
    for token in added_tokens:
        content, index, *flags = token
        named = dict(zip(token._fields[2:], flags, strict=True))
        tokenizer.add_tokens([tokenizers.AddedToken(content, **named)])
        assert tokenizer.token_to_id(content) == index
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=add_prefix_space
    )
    return tokenizer


def reference_ids(tokenizer, texts):
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


class Pair:
    """Our tokenizer and the reference, with the same tokens and settings."""

    def __init__(self, vocabulary, merges, **settings):
        self.ours = RobertaTokenizer(vocabulary, merges, **settings)
        self.theirs = reference(vocabulary, merges, **settings)

    def differences(self, texts):
        """Texts that tokenize differently."""
        chunks = (texts[start : start + 1000] for start in range(0, len(texts), 1000))
        return [
            text
            for chunk in chunks
            for text, row, expected in zip(
                chunk,
                self.ours(chunk, NO_LIMIT).to_list(),
                reference_ids(self.theirs, chunk),
                strict=True,
            )
            if row != expected
        ]


@pytest.fixture(scope="module")
def bpe() -> tuple[list[str], list[str]]:
    """Vocabulary and merges, trained on this repository's pages and on oddities."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [page.read_text("utf-8") for page in pages]
    tokenizer.train_from_iterator([*texts, ODDITIES * 10], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return tokens_by_id(model["vocab"]), merges


@pytest.fixture(scope="module")
def gpt2() -> tuple[list[str], list[str]]:
    """GPT-2's tokens behind RoBERTa's special tokens, and GPT-2's merges."""
    directory = os.environ.get("SIMCSE_GPT2")
    if not directory:
        pytest.skip("SIMCSE_GPT2 names no directory with encoder.json and vocab.bpe")
    ids = json.loads(Path(directory, "encoder.json").read_text("utf-8"))
    merges = Path(directory, "vocab.bpe").read_text("utf-8").split("\n")[1:-1]
    return [*SPECIAL, *tokens_by_id(ids)], merges


@pytest.fixture(scope="module")
def pair(bpe) -> Pair:
    return Pair(*bpe)


@pytest.fixture(scope="module")
def pairs(bpe, pair) -> list[Pair]:
    vocabulary, merges = bpe
    added = [*ADDED, AddedToken("don't", len(vocabulary), rstrip=True)]
    return [
        pair,
        Pair(vocabulary, merges, add_prefix_space=True),
        Pair([*vocabulary, "don't"], merges, add_prefix_space=True, added_tokens=added),
    ]


@pytest.fixture(scope="module")
def small() -> RobertaTokenizer:
    return RobertaTokenizer(SMALL, MERGES)


@pytest.fixture(scope="module")
def sentences(data_dir) -> list[str]:
    return real_sentences(data_dir)


# A part always, all of them where there is time.
@pytest.mark.slow
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.attack)])
def test_real_sentences_equal_reference(sentences, pair, every):
    assert len(sentences) == 58_607
    assert pair.differences(sentences[::every]) == []


@pytest.mark.slow
def test_every_real_sentence_equals_reference_with_the_merges_of_gpt2(sentences, gpt2):
    real = Pair(*gpt2)
    assert real.differences([*sentences, ODDITIES, *ODDITIES.split(" ")]) == []
    assert real.differences([" ".join(sentences)]) == []


texts = st.lists(
    st.lists(
        st.one_of(
            st.text(max_size=8),
            st.text(alphabet=ODDITIES, max_size=8),
            st.text(alphabet="aé1 '\n!", max_size=8),
            st.sampled_from(["<mask>", "</s>", "don't", " don't ", "naïve", "'ll"]),
            st.builds(str.__mul__, st.sampled_from("a1! é中"), st.integers(1, 100)),
        ),
        max_size=6,
    ).map("".join),
    max_size=4,
)


@pytest.mark.slow
@given(texts)
@settings(max_examples=80, deadline=None)
def test_any_text_equals_reference(pairs, texts):
    assert [pair.differences(texts) for pair in pairs] == [[]] * len(pairs)


@given(nearly_utf8)
@settings(max_examples=60, deadline=None)
def test_any_bytes_count_as_python_decodes_them(pairs, texts):
    decoded = [text.decode("utf-8", errors="replace") for text in texts]
    for pair in pairs:
        ids = pair.ours(tf.constant(texts, tf.string), NO_LIMIT).to_list()
        assert ids == reference_ids(pair.theirs, decoded)


@pytest.mark.parametrize(
    "text",
    [
        "Héllo wörld, it's " * 50_000,
        "a" * 10**6,
        "ab" * 5 * 10**5,
        " " * 10**6,
        "中" * 10**5,
        "!'s" * 10**5,
        "\0" * 10**5,
    ],
    ids=["words", "one letter", "two letters", "spaces", "中", "signs", "NUL"],
)
def test_a_huge_text_equals_reference(pair, text):
    # Compared as arrays: pytest explains the difference of huge lists for minutes.
    ids = pair.ours([text], NO_LIMIT).values.numpy()
    np.testing.assert_array_equal(ids, reference_ids(pair.theirs, [text])[0])


def test_empty_texts_and_special_tokens_in_a_text_are_plain_text(pair):
    texts = ["", "<mask>", "<s></s>", "a <pad> b", " ", "\n"]
    assert pair.differences(texts) == []
    assert pair.ours(texts, NO_LIMIT)[0].numpy().tolist() == [0, 2]
    assert 4 not in pair.ours(texts, NO_LIMIT)[1].numpy()


def test_a_text_gets_a_space_in_front_unless_it_has_one():
    tokenizer = RobertaTokenizer(SMALL, MERGES, add_prefix_space=True)
    texts = ["at", " at", "", "  at"]
    assert tokenizer(texts, 9).to_list() == [[0, 9, 2], [0, 9, 2], [0, 2], [0, 7, 9, 2]]


def test_a_row_is_cut_before_its_end_token(pairs):
    texts = ["I don't like it<mask>, they said.", "a", "", "中" * 10, "a<mask>" * 9]
    for pair in pairs:
        whole = pair.ours(texts, NO_LIMIT).to_list()
        for max_length in (2, 3, 5, 12):
            assert pair.ours(texts, max_length).to_list() == [
                [*row[:-1][: max_length - 1], 2] for row in whole
            ]


def test_bytes_without_a_token_vanish_as_in_the_reference():
    pair = Pair(SMALL, MERGES)
    texts = ["a!t", "! ! at", "!", "aé at", "at! !at", "\xff a"]
    assert pair.differences(texts) == []
    assert pair.ours(["! ! ! at at"], 4).to_list() == [[0, 7, 7, 2]]


@pytest.mark.parametrize(
    "texts",
    [
        ["at at", "tat"],
        (b"at at", b"tat"),
        np.array(["at at", "tat"]),
        np.array(["at at", "tat"], object),
        tf.constant(["at at", "tat"]),
    ],
    ids=["list", "bytes", "array", "object array", "tensor"],
)
def test_any_batch_of_strings_is_tokenized_to_int32(small, texts):
    ids = small(texts, 32)
    assert isinstance(ids, tf.RaggedTensor)
    assert ids.dtype == tf.int32
    assert ids.shape.as_list() == [2, None]
    assert ids.to_list() == [[0, 8, 9, 2], [0, 6, 8, 2]]


def test_an_empty_batch_gives_no_rows(small):
    assert small([], 32).to_list() == []


def test_tf_data_and_tf_function_give_the_eager_ids(pair):
    texts = ["It's  2!", "", "naïve " * 20, "\0\u3000x"]
    expected = pair.ours(texts, 8).to_list()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(batch):
        return pair.ours(batch, 8)

    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(3)
    rows = [
        row for ids in dataset.map(lambda t: pair.ours(t, 8)) for row in ids.to_list()
    ]
    assert tokenize(tf.constant(texts)).to_list() == expected
    assert rows == expected


def test_two_tokenizers_in_one_process_keep_their_own_merges(small):
    other = RobertaTokenizer(SMALL, MERGES[:1])
    assert small(["at at"], 9).to_list() == [[0, 8, 9, 2]]
    assert other(["at at"], 9).to_list() == [[0, 8, 7, 8, 2]]
    assert small(["at at"], 9).to_list() == [[0, 8, 9, 2]]


@pytest.mark.slow
def test_a_tokenizer_outlives_a_cleared_session():
    tokenizer = RobertaTokenizer(SMALL, MERGES)
    tokenize = tf.function(lambda text: tokenizer(text, 9).values)
    text = tf.constant(["at at"])
    before = tokenize(text).numpy().tolist()
    keras.utils.clear_session()
    assert tokenizer(text, 9).to_list() == [[0, 8, 9, 2]]
    assert tokenize(text).numpy().tolist() == before == [0, 8, 9, 2]


RELOAD = """
import json, sys
import tensorflow as tf
import tensorflow_text
texts = json.loads(sys.argv[2])
print(json.dumps(tf.saved_model.load(sys.argv[1]).tokenize(texts).to_list()))
"""


class Served(tf.Module):
    """A tokenizer as an export holds it."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(self, text):
        return self.tokenizer(text, 16)


@pytest.mark.slow
def test_a_saved_model_gives_the_same_ids_in_another_process(tmp_path, pairs):
    tokenizer = pairs[-1].ours
    tf.saved_model.save(Served(tokenizer), str(tmp_path))
    texts = ["It's <mask> I don't", "", "naïve " * 20, "a" * 1000, ODDITIES]
    finished = run_script(RELOAD, tmp_path, json.dumps(texts), cwd=tmp_path)
    assert json.loads(finished.stdout) == tokenizer(texts, 16).to_list()


def test_a_session_gives_the_same_ids_as_tf_serving_would(tmp_path, small):
    """TF Serving runs a SavedModel's graph in a session."""
    module = Served(small)
    signature = tf.function(
        lambda text: {"ids": small(text, 16).to_tensor()},
        input_signature=[tf.TensorSpec([None], tf.string, "text")],
    )
    tf.saved_model.save(module, str(tmp_path), {"serving_default": signature})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        names = loaded.signature_def["serving_default"]
        feed = {names.inputs["text"].name: [b"at at", BROKEN[0], b"a"]}
        ids = session.run(names.outputs["ids"].name, feed)
    assert ids.tolist() == [[0, 8, 9, 2], [0, 2, 0, 0], [0, 5, 2, 0]]


def test_token_ids_and_config_describe_the_tokenizer(small):
    assert small.vocabulary == SMALL
    assert small.vocabulary_size == len(SMALL)
    assert (small.cls_token_id, small.pad_token_id, small.sep_token_id) == (0, 1, 2)
    assert small.mask_token_id == 4
    assert small.special_token_ids == (1, 0, 2)
    without_mask = [token for token in SMALL if token != "<mask>"]
    assert RobertaTokenizer(without_mask, MERGES).mask_token_id is None
    assert small.get_config() == {
        "merges": MERGES,
        "add_prefix_space": False,
        "added_tokens": [],
    }


@pytest.mark.slow
def test_the_configuration_makes_the_same_tokenizer_again():
    tokenizer = RobertaTokenizer(
        SMALL, MERGES, add_prefix_space=True, added_tokens=ADDED
    )
    config = json.loads(json.dumps(tokenizer.get_config()))
    again = RobertaTokenizer(tokenizer.vocabulary, **config)
    through_keras_hub = RobertaTokenizer.from_keras_hub(
        tokenizer.to_keras_hub(), **tokenizer.settings()
    )
    for other in (again, through_keras_hub):
        assert other.get_config() == tokenizer.get_config()
        assert other.vocabulary == SMALL
        assert other(["at<mask> at"], 9).to_list() == [[0, 9, 4, 9, 2]]


def test_a_tokenizer_of_keras_hub_is_taken_over(tmp_path):
    theirs = keras_hub.models.RobertaTokenizer(
        vocabulary={token: 2 * index for index, token in enumerate(SMALL)},
        merges=["#version: 0.2", *MERGES],
    )
    ours = RobertaTokenizer.from_keras_hub(theirs)
    assert ours.merges == MERGES
    assert ours.vocabulary_size == 2 * len(SMALL) - 1
    assert ours(["at at", "<mask>"], 9).to_list() == [[0, 16, 18, 4], [0, 10, 4]]


def test_a_vocabulary_without_mask_is_not_keras_hubs():
    tokenizer = RobertaTokenizer([t for t in SMALL if t != "<mask>"], MERGES)
    with pytest.raises(UserError, match="no <mask> in it"):
        tokenizer.to_keras_hub()


@pytest.mark.parametrize("token", ["<s>", "<pad>", "</s>"])
def test_a_missing_special_token_is_named(token):
    with pytest.raises(UserError, match=f"vocabulary: no {token} in it"):
        RobertaTokenizer([other for other in SMALL if other != token], MERGES)


def test_a_token_that_is_there_twice_is_named():
    with pytest.raises(UserError, match="'at' is there twice, at 8 and 10"):
        RobertaTokenizer([*SMALL, "at"], MERGES)


@pytest.mark.parametrize("token", [7, b"at", None, "\ud800"])
def test_a_token_that_is_not_text_is_named(token):
    with pytest.raises(UserError, match="valid Unicode at 10; received"):
        RobertaTokenizer([*SMALL, token], MERGES)


@pytest.mark.parametrize("merge", ["at", "a t a", "", " ", "a ", "#version:", 7, None])
def test_a_merge_that_is_not_of_two_tokens_is_named(merge):
    with pytest.raises(UserError, match="merges: expected two tokens .* at 2; receiv"):
        RobertaTokenizer(SMALL, [*MERGES, merge])


@pytest.mark.parametrize(
    ("merge", "token"), [("x t", "x"), ("a x", "x"), ("t a", "ta")]
)
def test_a_merge_of_what_is_no_token_is_named(merge, token):
    with pytest.raises(UserError, match=f"'{token}' of the merge '{merge}' at 2"):
        RobertaTokenizer(SMALL, [*MERGES, merge])


def test_ids_that_two_tokens_share_are_refused():
    with pytest.raises(UserError, match="received 3 tokens with 2 ids from 0"):
        tokens_by_id({"a": 0, "b": 1, "c": 0})
    with pytest.raises(UserError, match="2 ids from -1"):
        tokens_by_id({"a": 0, "b": -1})
    assert tokens_by_id({"b": 2, "a": 0}) == ["a", "<id 1>", "b"]


@pytest.mark.parametrize("max_length", [1, 0, -5, 2.0, "32", None, True])
def test_a_max_length_without_room_for_the_ends_is_a_user_error(small, max_length):
    with pytest.raises(UserError, match="max_length must be an int of at least 2"):
        small(["at"], max_length)


@pytest.mark.parametrize("text", ["at", [["at"]]])
def test_a_text_that_is_no_flat_batch_is_a_user_error(small, text):
    with pytest.raises(UserError, match=r"of shape \[n\]"):
        small(text, 32)
