"""Hugging Face's tokenizer files, against the `tokenizers` package."""

import io
import json

import keras_hub
import numpy as np
import pytest
import sentencepiece
import tokenizers

from simcse_tf import SimCSE
from simcse_tf.checkpoints.tokenizer_files import read_tokenizer, write_tokenizer
from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.added_tokens import AddedToken
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.sentencepiece_model_pb2 import ModelProto

# To trace a graph for each tokenizer would take longer than all else.
pytestmark = pytest.mark.usefixtures("eagerly")

LIMIT = 64
WORDS = ["play", "##ing", "Play", "cafe", "café", "naive", "中", "国", "a", "##b", "!"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "中国", "ab", "-"]
TEXTS = [
    "Playing playing café CAFE naïve !a ab",
    "中国 a中a",
    "a [MASK]b[SEP] [CLS] [PAD][UNK][mask]",
    "COVID-19 covid-19s Covid-19",
    "a  <q>  b<q>",
    "<s> a</s> <mask>  b<mask> <pad><unk>",
    "\ta\u3000b\u200b don't it'll  a",
    "",
    "\uff1cmask\uff1e  \uff21 \u2581a ",
    "a " * 100,
]
SWITCHES = [
    (lowercase, strip_accents, chinese)
    for lowercase in (True, False)
    for strip_accents in (None, True, False)
    for chinese in (True, False)
]
JSON, CONFIG = "tokenizer.json", "tokenizer_config.json"
ADDED = [
    tokenizers.AddedToken("COVID-19"),
    tokenizers.AddedToken("<q>", lstrip=True, rstrip=True, normalized=False),
]


def wordpiece(lowercase=True, strip_accents=None, chinese=True):
    """BERT's tokenizer, as transformers makes it."""
    vocabulary = {token: index for index, token in enumerate(BERT)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]")
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(BERT[:5])
    return tokenizer


def byte_level_bpe(add_prefix_space=False):
    """RoBERTa's tokenizer, trained on the texts."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = byte_level
    mask = tokenizers.AddedToken("<mask>", lstrip=True, normalized=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=byte_level.alphabet(),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", mask],
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=add_prefix_space
    )
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=add_prefix_space
    )
    return tokenizer


@pytest.fixture(scope="module")
def sentencepiece_model():
    """The file of a small SentencePiece model, trained on the texts."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=file,
        vocab_size=60,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return file.getvalue()


PIPELINES = ["split", "merge", "strip", "keep"]


def unigram(file, spaces="strip"):
    """XLM-RoBERTa's tokenizer, as transformers makes it of SentencePiece's file."""
    model = ModelProto.FromString(file)
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [(piece.piece, piece.score) for piece in model.pieces[3:]]
    vocabulary = [*first, *pieces, ("<mask>", 0.0)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=3))
    several = tokenizers.Regex(" {2,}")
    normalizers, pre_tokenizers = tokenizers.normalizers, tokenizers.pre_tokenizers
    charsmap = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    behind = {
        "merge": [normalizers.Replace(several, " ")],
        "strip": [
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(several, "\u2581"),
        ],
    }
    tokenizer.normalizer = normalizers.Sequence([charsmap, *behind.get(spaces, [])])
    tokenizer.pre_tokenizer = metaspace = pre_tokenizers.Metaspace()
    if spaces == "split":
        parts = [pre_tokenizers.WhitespaceSplit(), metaspace]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    mask = tokenizers.AddedToken("<mask>", lstrip=True, normalized=False)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", mask])
    return tokenizer


def save(tokenizer, directory, **config):
    """Saves a tokenizer as transformers does; a generic class takes it as it stands."""
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / JSON))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **config}
    (directory / CONFIG).write_text(json.dumps(config))
    return directory


def theirs(tokenizer, plain_specials=False):
    tokenizer.encode_special_tokens = plain_specials
    tokenizer.enable_truncation(LIMIT)
    return [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]


def ours(tokenizer):
    return tokenizer(TEXTS, LIMIT).to_list()


def edit(path, changes):
    values = json.loads(path.read_text())
    for key, value in changes.items():
        *parts, last = key.split(".")
        target = values
        for part in parts:
            target = target[part]
        target[last] = value
    path.write_text(json.dumps(values))


def refusal(directory):
    with pytest.raises(UserError) as error:
        read_tokenizer(directory, "bert")
    message = str(error.value)
    assert "\n" not in message
    assert "expected" in message
    return message


@pytest.mark.slow
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_a_tokenizer_json_gives_the_ids_of_its_library(tmp_path, switches):
    reference = wordpiece(*switches)
    assert ours(read_tokenizer(save(reference, tmp_path), "bert")) == theirs(reference)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_a_class_takes_its_switches_from_the_configuration(tmp_path, switches):
    lowercase, strip_accents, chinese = switches
    save(
        wordpiece(not lowercase, not strip_accents, not chinese),
        tmp_path,
        tokenizer_class="BertTokenizerFast",
        do_lower_case=lowercase,
        strip_accents=strip_accents,
        tokenize_chinese_chars=chinese,
    )
    in_class = read_tokenizer(tmp_path, "bert").get_config()
    save(wordpiece(*switches), tmp_path)
    assert in_class == read_tokenizer(tmp_path, "bert").get_config()


@pytest.mark.parametrize("name", ["BertTokenizer", "DistilBertTokenizer", None])
def test_a_class_without_switches_lower_cases(tmp_path, name):
    save(wordpiece(lowercase=False), tmp_path, tokenizer_class=name)
    assert ours(read_tokenizer(tmp_path, "distilbert")) == theirs(wordpiece())


def test_without_any_configuration_the_model_type_decides(tmp_path):
    save(wordpiece(), tmp_path)
    (tmp_path / CONFIG).unlink()
    assert ours(read_tokenizer(tmp_path, "bert")) == theirs(wordpiece())


def test_a_lost_configuration_is_told_where_it_mattered(tmp_path):
    save(wordpiece(lowercase=False), tmp_path)
    (tmp_path / CONFIG).unlink()
    assert "normalizer.lowercase is False" in refusal(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    names = [f"Name{index}" for index in range(len(BERT))]
    (tmp_path / "vocab.txt").write_text("\n".join([*BERT, *names]) + "\n", "utf-8")
    assert "the vocabulary has capitals" in refusal(tmp_path)


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_vocabulary_file_alone_is_enough(tmp_path, lowercase):
    (tmp_path / "vocab.txt").write_text("\n".join(BERT) + "\n", "utf-8")
    (tmp_path / CONFIG).write_text(json.dumps({"do_lower_case": lowercase}))
    assert ours(read_tokenizer(tmp_path, "bert")) == theirs(wordpiece(lowercase))


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("name", ["RobertaTokenizer", "PreTrainedTokenizerFast"])
def test_byte_level_bpe_gives_the_ids_of_its_library(tmp_path, prefix, name):
    reference = byte_level_bpe(prefix)
    save(reference, tmp_path, tokenizer_class=name, add_prefix_space=prefix)
    assert ours(read_tokenizer(tmp_path, "roberta")) == theirs(reference)


def test_a_class_without_add_prefix_space_adds_none(tmp_path):
    save(byte_level_bpe(True), tmp_path, tokenizer_class="RobertaTokenizer")
    expected = theirs(byte_level_bpe(False))
    assert ours(read_tokenizer(tmp_path, "roberta")) == expected


def test_vocabulary_and_merges_alone_are_enough(tmp_path):
    reference = byte_level_bpe()
    reference.model.save(str(tmp_path))
    assert ours(read_tokenizer(tmp_path, "roberta")) == theirs(reference)


@pytest.mark.slow
@pytest.mark.parametrize("spaces", PIPELINES)
def test_unigram_gives_the_ids_of_its_library(tmp_path, sentencepiece_model, spaces):
    reference = unigram(sentencepiece_model, spaces)
    reference.add_tokens(ADDED)
    tokenizer = read_tokenizer(save(reference, tmp_path), "bert")
    assert ours(tokenizer) == theirs(reference)
    (tmp_path / "ours").mkdir()
    write_tokenizer(tokenizer, tmp_path / "ours", LIMIT)
    written = tokenizers.Tokenizer.from_file(str(tmp_path / "ours" / JSON))
    assert theirs(written) == theirs(reference)
    for directory in (
        tmp_path / "ours",
        save(reference, tmp_path, tokenizer_class="XLMRobertaTokenizer"),
    ):
        again = read_tokenizer(directory, "xlm-roberta")
        assert again.vocabulary == tokenizer.vocabulary
        assert again.get_config() == tokenizer.get_config()


@pytest.mark.slow
def test_tokens_that_a_user_added_survive_a_preset(tmp_path, sentencepiece_model):
    reference = unigram(sentencepiece_model)
    reference.add_tokens(ADDED)
    tokenizer = read_tokenizer(save(reference, tmp_path), "xlm-roberta")
    backbone = keras_hub.models.XLMRobertaBackbone(
        vocabulary_size=tokenizer.vocabulary_size,
        num_layers=1,
        num_heads=1,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=LIMIT,
    )
    model = SimCSE(backbone, tokenizer, pooling="avg")
    model.save_to_preset(tmp_path / "preset")
    again = SimCSE.from_preset(str(tmp_path / "preset"))
    assert again.tokenizer.vocabulary == tokenizer.vocabulary
    assert again.tokenizer.get_config() == tokenizer.get_config()
    assert ours(again.tokenizer) == theirs(reference)
    np.testing.assert_array_equal(again.predict(TEXTS), model.predict(TEXTS))


def test_the_older_form_of_metaspace_is_read(tmp_path, sentencepiece_model):
    reference = unigram(sentencepiece_model, "split")
    newer = read_tokenizer(save(reference, tmp_path), "xlm-roberta")
    older = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    edit(
        tmp_path / JSON,
        {"pre_tokenizer.pretokenizers": [{"type": "WhitespaceSplit"}, older]},
    )
    tokenizer = read_tokenizer(tmp_path, "xlm-roberta")
    assert tokenizer.get_config() == newer.get_config()


def test_the_file_of_sentencepiece_alone_is_enough(tmp_path, sentencepiece_model):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece_model)
    from_file = read_tokenizer(tmp_path, "xlm-roberta")
    from_json = read_tokenizer(save(unigram(sentencepiece_model), tmp_path), "bert")
    assert from_file.vocabulary == from_json.vocabulary
    assert from_file.get_config() == from_json.get_config()


def test_special_tokens_of_xlm_roberta_are_written_as_such(
    tmp_path, sentencepiece_model
):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece_model)
    tokenizer = read_tokenizer(tmp_path, "xlm-roberta")
    mine = AddedToken("<q>", tokenizer.vocabulary_size)
    config = {**tokenizer.get_config(), "added_tokens": [mine], "spaces": "split"}
    plain = type(tokenizer)([*tokenizer.vocabulary, mine.content], **config)
    (tmp_path / "ours").mkdir()
    write_tokenizer(plain, tmp_path / "ours", LIMIT)
    again = read_tokenizer(tmp_path / "ours", "xlm-roberta")
    assert again.added_tokens == (*tokenizer.added_tokens, mine)
    # The file beside it holds the same model.
    (tmp_path / "ours" / JSON).unlink()
    from_file = read_tokenizer(tmp_path / "ours", "xlm-roberta")
    assert from_file.vocabulary == plain.vocabulary
    assert from_file.scores == tokenizer.scores


METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (JSON, {"model.unk_id": 0}, "model.unk_id is 0"),
        (JSON, {"model.byte_fallback": True}, "model.byte_fallback is True"),
        (JSON, {"pre_tokenizer": METASPACE}, "normalizer and pre_tokenizer is"),
        (JSON, {"normalizer": {"type": "NFKC"}}, "normalizer and pre_tokenizer is"),
        (JSON, {"added_tokens": []}, "added_tokens is []"),
        (CONFIG, {"split_special_tokens": True}, "split_special_tokens is True"),
        (CONFIG, {"add_prefix_space": False}, "add_prefix_space is False"),
        (CONFIG, {"bos_token": "[CLS]"}, "bos_token is '[CLS]'"),
    ],
    ids=str,
)
def test_unigram_that_is_not_implemented_is_refused(
    tmp_path, sentencepiece_model, file, changes, message
):
    save(unigram(sentencepiece_model), tmp_path)
    edit(tmp_path / file, changes)
    refused = refusal(tmp_path)
    assert message in refused
    assert str(tmp_path / file) in refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name"),
    [(wordpiece, "BertTokenizer"), (byte_level_bpe, "RobertaTokenizer")],
)
def test_added_tokens_are_found_in_the_text(tmp_path, make, name):
    reference = make()
    reference.add_tokens(ADDED)
    size = reference.get_vocab_size()
    save(reference, tmp_path / "generic")
    save(reference, tmp_path / "class", tokenizer_class=name)
    for directory in (tmp_path / "generic", tmp_path / "class"):
        tokenizer = read_tokenizer(directory, "bert")
        assert tokenizer.vocabulary_size == size
        assert ours(tokenizer) == theirs(reference)


def test_the_older_files_declare_added_tokens_as_well(tmp_path):
    reference = wordpiece()
    mask = tokenizers.AddedToken("[MASK]", lstrip=True, normalized=False)
    reference.add_special_tokens([mask])
    reference.add_tokens(["COVID-19"])
    (tmp_path / "vocab.txt").write_text("\n".join(BERT) + "\n", "utf-8")
    special = {"mask_token": {"content": "[MASK]", "lstrip": True, "normalized": False}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    added = {"COVID-19": len(BERT)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert ours(read_tokenizer(tmp_path, "bert")) == theirs(reference)


def test_tokenizer_json_has_the_last_word_on_tokens_of_the_older_files(tmp_path):
    reference = wordpiece()
    reference.add_tokens([tokenizers.AddedToken("COVID-19", lstrip=True)])
    save(reference, tmp_path)
    added = {"COVID-19": len(BERT)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert ours(read_tokenizer(tmp_path, "bert")) == theirs(reference)


def decoder(*others):
    """`added_tokens_decoder` with the special tokens and others behind them."""
    tokens = [
        {"content": content, "normalized": content in others, "special": False}
        for content in (*BERT[:5], *others)
    ]
    ids = [*range(5), *range(len(BERT), len(BERT) + len(others))]
    return {str(index): token for index, token in zip(ids, tokens, strict=True)}


def test_added_tokens_of_the_configuration_come_on_top(tmp_path):
    save(
        wordpiece(),
        tmp_path,
        tokenizer_class="BertTokenizer",
        added_tokens_decoder=decoder("COVID-19"),
    )
    reference = wordpiece()
    reference.add_tokens(["COVID-19"])
    assert ours(read_tokenizer(tmp_path, "bert")) == theirs(reference)


@pytest.mark.parametrize("make", [wordpiece, byte_level_bpe])
def test_split_special_tokens_makes_them_plain_text(tmp_path, make):
    save(make(), tmp_path, split_special_tokens=True)
    tokenizer = read_tokenizer(tmp_path, "bert")
    assert tokenizer.added_tokens == ()
    assert ours(tokenizer) == theirs(make(), plain_specials=True)


CLASS = {"tokenizer_class": "BertTokenizer"}
BERT_PROCESSING = {"type": "BertProcessing", "sep": ["!", 15], "cls": ["[CLS]", 2]}


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (JSON, {"version": "2.0"}, "version is '2.0'"),
        (JSON, {"truncation": {"direction": "Left"}}, "truncation.direction is 'Left'"),
        (JSON, {"padding": {"direction": "Left"}}, "padding.direction is 'Left'"),
        (JSON, {"normalizer": None}, "normalizer.type is ''"),
        (JSON, {"normalizer": {"type": "NFC"}}, "normalizer.type is 'NFC'"),
        (JSON, {"normalizer.clean_text": False}, "normalizer.clean_text is False"),
        (JSON, {"normalizer.lowercase": None}, "normalizer.lowercase is None"),
        (JSON, {"pre_tokenizer.type": "Whitespace"}, "pre_tokenizer.type is 'White"),
        (JSON, {"model.type": "WordLevel"}, "model.type is 'WordLevel'"),
        (JSON, {"model.unk_token": "<unk>"}, "model.unk_token is '<unk>'"),
        (JSON, {"model.continuing_subword_prefix": "@"}, "subword_prefix is '@'"),
        (JSON, {"model.max_input_chars_per_word": 50}, "chars_per_word is 50"),
        (JSON, {"model.vocab": {"[CLS]": 0, "a": 2}}, "all ids from 0 on"),
        (JSON, {"post_processor": None}, "post_processor.type is ''"),
        (JSON, {"post_processor.single": []}, "post_processor.single is"),
        (JSON, {"post_processor": BERT_PROCESSING}, "post_processor is"),
        (CONFIG, {"tokenizer_class": "MPNetTokenizer"}, "class is 'MPNetTokenizer'"),
        (CONFIG, {"truncation_side": "left"}, "truncation_side is 'left'"),
        (CONFIG, {"padding_side": "left"}, "padding_side is 'left'"),
        (CONFIG, {"auto_map": {"AutoTokenizer": ["a", None]}}, "auto_map is"),
        (CONFIG, {"fast_tokenizer_files": ["a"]}, "fast_tokenizer_files is"),
        (CONFIG, {"from_slow": True}, "from_slow is True"),
        (CONFIG, {"model_input_names": ["input_ids"]}, "model_input_names is"),
        (CONFIG, {"image_token": "<image>"}, "image_token is '<image>'"),
        (CONFIG, {"cls_token": "<s>"}, "cls_token is '<s>'"),
        (CONFIG, {"split_special_tokens": "no"}, "split_special_tokens is 'no'"),
        (CONFIG, {**CLASS, "do_lower_case": "yes"}, "do_lower_case is 'yes'"),
        (CONFIG, {**CLASS, "strip_accents": 1}, "strip_accents is 1"),
    ],
    ids=str,
)
def test_what_is_not_implemented_is_refused_by_name(tmp_path, file, changes, message):
    save(wordpiece(), tmp_path)
    edit(tmp_path / file, changes)
    refused = refusal(tmp_path)
    assert message in refused
    assert str(tmp_path / file) in refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer is 'NFC'"),
        ({"pre_tokenizer.use_regex": False}, "pre_tokenizer.use_regex is False"),
        ({"pre_tokenizer.add_prefix_space": True}, "add_prefix_space is False"),
        ({"model.dropout": 0.1}, "model.dropout is 0.1"),
        ({"model.end_of_word_suffix": "</w>"}, "end_of_word_suffix is '</w>'"),
        ({"model.byte_fallback": True}, "model.byte_fallback is True"),
        ({"model.ignore_merges": True}, "model.ignore_merges is True"),
        ({"post_processor.cls": ["</s>", 2]}, "post_processor is"),
    ],
    ids=str,
)
def test_byte_level_bpe_that_is_not_implemented_is_refused(tmp_path, changes, message):
    save(byte_level_bpe(), tmp_path)
    edit(tmp_path / JSON, changes)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("lines", ["a b\n", "#version: 0.2\na b"], ids=repr)
def test_merges_that_versions_read_differently_are_refused(tmp_path, lines):
    byte_level_bpe().model.save(str(tmp_path))
    (tmp_path / CONFIG).write_text('{"tokenizer_class": "RobertaTokenizer"}')
    (tmp_path / "merges.txt").write_text(lines)
    assert "merges.txt: expected a first line" in refusal(tmp_path)


def test_an_added_token_with_another_id_than_its_own_is_refused(tmp_path):
    reference = wordpiece()
    reference.add_tokens(ADDED)
    save(reference, tmp_path)
    values = json.loads((tmp_path / JSON).read_text())
    values["added_tokens"][-1]["id"] += 1
    (tmp_path / JSON).write_text(json.dumps(values))
    assert f"'<q>' is {len(BERT) + 2}" in refusal(tmp_path)


def test_a_token_of_single_words_is_refused(tmp_path):
    reference = wordpiece()
    reference.add_tokens([tokenizers.AddedToken("q-q", single_word=True)])
    message = refusal(save(reference, tmp_path))
    assert "single_word of the added token 'q-q' is True" in message


def test_an_added_word_that_the_model_would_find_as_well_is_refused(tmp_path):
    reference = wordpiece()
    reference.add_special_tokens(["word"])
    message = refusal(save(reference, tmp_path))
    assert "normalized of the added token 'word' is False" in message


def test_files_that_contradict_each_other_are_refused(tmp_path):
    reference = wordpiece()
    reference.add_tokens(["COVID-19"])
    config = {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": decoder()}
    save(reference, tmp_path, **config)
    assert "the added token 'COVID-19' is" in refusal(tmp_path)
    tokens = decoder("COVID-19")
    tokens["4"]["lstrip"] = True
    edit(tmp_path / CONFIG, {"added_tokens_decoder": tokens})
    assert "the added token '[MASK]' is {'id': 4, 'lstrip': True" in refusal(tmp_path)


def test_a_token_that_only_some_versions_take_for_special_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(BERT) + "\n", "utf-8")
    special = {"additional_special_tokens": ["Foo-Bar"]}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"Foo-Bar": len(BERT)}))
    assert "additional_special_tokens is 'Foo-Bar'" in refusal(tmp_path)


@pytest.mark.parametrize("make", [wordpiece, byte_level_bpe])
@pytest.mark.parametrize("split", [False, True])
def test_what_is_written_reads_back_and_means_the_same(tmp_path, make, split):
    reference = make()
    if not split:
        reference.add_tokens(ADDED)
    save(reference, tmp_path / "theirs", split_special_tokens=split)
    tokenizer = read_tokenizer(tmp_path / "theirs", "bert")
    directory = tmp_path / "ours"
    directory.mkdir()
    write_tokenizer(tokenizer, directory, max_length=LIMIT)

    loaded = tokenizers.Tokenizer.from_file(str(directory / JSON))
    config = json.loads((directory / CONFIG).read_text())
    assert config["model_max_length"] == LIMIT
    assert config["split_special_tokens"] is split
    assert theirs(loaded, split) == theirs(reference, split) == ours(tokenizer)
    again = read_tokenizer(directory, "bert")
    assert again.vocabulary == tokenizer.vocabulary
    assert again.get_config() == tokenizer.get_config()


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_of_bert_is_written(tmp_path, switches):
    lowercase, strip_accents, chinese = switches
    tokenizer = BertTokenizer(
        BERT,
        lowercase=lowercase,
        strip_accents=strip_accents,
        handle_chinese_chars=chinese,
    )
    write_tokenizer(tokenizer, tmp_path, LIMIT, model_type="distilbert")
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["tokenizer_class"] == "DistilBertTokenizer"
    loaded = tokenizers.Tokenizer.from_file(str(tmp_path / JSON))
    expected = wordpiece(lowercase, tokenizer.strip_accents, chinese)
    for text in TEXTS:
        normalized = loaded.normalizer.normalize_str(text)
        assert normalized == expected.normalizer.normalize_str(text)
    assert read_tokenizer(tmp_path, "bert").get_config() == tokenizer.get_config()
    (tmp_path / JSON).unlink()
    assert read_tokenizer(tmp_path, "bert").get_config() == tokenizer.get_config()


def test_special_tokens_that_are_not_all_alike_cannot_be_written(tmp_path):
    tokenizer = BertTokenizer(BERT, added_tokens=[AddedToken("[SEP]", 3)])
    with pytest.raises(UserError, match=r"but \[CLS\], \[MASK\], \[PAD\], \[UNK\] are"):
        write_tokenizer(tokenizer, tmp_path, LIMIT)
