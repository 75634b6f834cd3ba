"""A vocabulary fits its table of embeddings, and merges fit their vocabulary."""

import json
import shutil

import pytest

from simcse_tf import SimCSE
from simcse_tf.checkpoints.vocabulary_rows import check_rows
from simcse_tf.core.errors import UserError
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.tokenizers.sentencepiece_model import read_model
from simcse_tf.tokenizers.sentencepiece_model_pb2 import ModelProto

FIRST = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tokenizer(size):
    words = [f"w{index}" for index in range(size - len(FIRST))]
    return BertTokenizer([*FIRST, *words])


@pytest.mark.parametrize(
    ("tokens", "rows", "only_padded"),
    [(100, 100, True), (1000, 1008, True), (1000, 1007, False), (1000, 1127, False)],
)
def test_as_many_tokens_as_rows_or_a_few_less(tokens, rows, only_padded):
    notes = check_rows(tokenizer(tokens), rows, "it", only_padded=only_padded)
    expected = f"{tokens} tokens for {rows} embeddings"
    assert notes == (() if tokens == rows else (expected,))


@pytest.mark.parametrize(
    ("tokens", "rows", "only_padded", "message"),
    [
        (101, 100, False, "another one"),
        (1000, 1128, False, "cut"),
        (30, 60, False, "cut"),
        (1000, 1007, True, "cut"),
        (15261, 30522, False, "cut"),
    ],
)
def test_other_numbers_are_refused(tokens, rows, only_padded, message):
    with pytest.raises(UserError, match=f"the vocabulary is {message}"):
        check_rows(tokenizer(tokens), rows, "it", only_padded=only_padded)


def test_a_vocabulary_that_ends_within_a_line_is_refused_where_rows_are_left(tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_text("a\nb")
    assert check_rows(tokenizer(100), 100, "it", file) == ()
    with pytest.raises(UserError, match="ends within a line"):
        check_rows(tokenizer(1000), 1008, "it", file)


def test_half_of_the_merges_are_refused(checkpoints, tmp_path):
    shutil.copytree(checkpoints.arguments("5/plain/roberta")["preset"], tmp_path / "a")
    (tmp_path / "a" / "tokenizer.json").unlink()
    SimCSE.from_preset(str(tmp_path / "a"), pooling="avg")
    merges = tmp_path / "a" / "merges.txt"
    lines = merges.read_bytes().splitlines(True)
    merges.write_bytes(b"".join(lines[: len(lines) // 2]))
    with pytest.raises(UserError, match="its merges are cut"):
        SimCSE.from_preset(str(tmp_path / "a"), pooling="avg")


def test_a_sentencepiece_model_that_ends_behind_its_pieces_is_refused(checkpoints):
    directory = checkpoints.arguments("5/xlm-roberta/mean")["preset"]
    with open(f"{directory}/sentencepiece.bpe.model", "rb") as file:
        model = ModelProto.FromString(file.read())
    read_model(model.SerializeToString())
    model.ClearField("normalizer_spec")
    with pytest.raises(UserError, match="ends too early"):
        read_model(model.SerializeToString())


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("6/bert/mean", "sentence_bert_config.json", "where texts are cut"),
        ("6/bert/mean", "config_sentence_transformers.json", "holds the prompts"),
        ("6/bert/dense 8", "modules.json", "modules.json is missing"),
        ("6/bert/mean", "1_Pooling/config.json", "cannot read"),
    ],
)
def test_what_is_always_beside_a_sentence_transformer_is_missed(
    name, file, message, checkpoints, tmp_path
):
    shutil.copytree(checkpoints.arguments(name)["preset"], tmp_path / "a")
    (tmp_path / "a" / file).unlink()
    with pytest.raises(UserError, match=message):
        SimCSE.from_preset(str(tmp_path / "a"))


def test_a_text_embedder_without_its_task_is_missed(tiny_preset, tmp_path):
    shutil.copytree(tiny_preset, tmp_path / "a")
    values = {
        "module": "keras_hub.src.models.bert.bert_text_embedder_preprocessor",
        "class_name": "BertTextEmbedderPreprocessor",
        "registered_name": "keras_hub>BertTextEmbedderPreprocessor",
        "config": {"sequence_length": 32},
    }
    (tmp_path / "a" / "preprocessor.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"no task\.json, which says how it pools"):
        SimCSE.from_preset(str(tmp_path / "a"))
    SimCSE.from_preset(str(tmp_path / "a"), pooling="avg")
