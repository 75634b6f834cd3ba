"""The field's checkpoints come in exactly, or are refused by name: nothing between.

Each was written and embedded by sentence-transformers (5 and 6) and transformers, with
small random weights; see `tools/make_foreign_checkpoints.py`. Their names say what they
vary, behind the major version that wrote them.
"""

import numpy as np
import pytest
import tensorflow as tf
from support import foreign
from support.exports import leave_unchecked
from support.models import run_eagerly

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.exporting import saved_model
from simcse_tf.model.bulk import encode

# Every other checkpoint has to be embedded as the library that wrote it embeds it.
REFUSED = {
    # Modules.
    "bert/cnn": "CNN",
    "bert/lstm": "LSTM",
    "bert/weighted layer pooling": "WeightedLayerPooling",
    "bert/layer norm": "LayerNorm",
    "bert/no pooling": "Pooling",
    "bert/module of another package": "my_package.MyPooling",
    "bert/dense residual": "use_residual",
    "bert/dense on tokens": "token_embeddings",
    "bert/dense of unknown activation": "my.Activation",
    "bert/normalize, dense": "Normalize",
    "bert/prompt excluded": "include_prompt",
    "bert/truncate_dim": "truncate_dim",
    "kind/CrossEncoder": "CrossEncoder",
    "kind/SparseEncoder": "SparseEncoder",
    "kind/StaticEmbedding": "StaticEmbedding",
    "kind/BoW": "BoW",
    "kind/Router": "Router",
    "kind/pooler output by modality_config": "modality_config",
    "kind/first layer by modality_config": "modality_config",
    "kind/processing_kwargs": "processing_kwargs",
    "kind/custom code": "nomic_bert",
    # Tokenizers.
    "bert/padding_side left": "padding_side",
    "roberta/padding_side left": "padding_side",
    "bert/truncation_side left": "truncation_side",
    "bert/no tokenizer": "vocab.txt",
    "bert/special tokens of other names": "sep_token",
    "bert/added single_word": "single_word",
    "roberta/added single_word": "single_word",
    "xlm-roberta/added single_word": "single_word",
    "bert/normalizer NFKC": "normalizer",
    "bert/normalizer Replace": "normalizer",
    "bert/clean_text false": "clean_text",
    "bert/no normalizer": "normalizer",
    "bert/pre_tokenizer Whitespace": "pre_tokenizer",
    "bert/no special tokens around": "post_processor",
    "bert/two separators": "post_processor",
    "bert/type id 1": "post_processor",
    "bert/max_input_chars_per_word 8": "max_input_chars_per_word",
    "bert/continuing_subword_prefix": "continuing_subword_prefix",
    "roberta/pre_tokenizer Digits": "pre_tokenizer",
    "roberta/normalizer Lowercase": "normalizer",
    "roberta/use_regex false": "use_regex",
    "roberta/dropout": "dropout",
    "xlm-roberta/BPE with byte_fallback": "byte_fallback",
    # Configurations.
    "bert/is_decoder": "is_decoder",
    "roberta/pad_token_id 0": "pad_token_id",
    "bert/position_embedding_type relative_key": "position_embedding_type",
    "bert/position_embedding_type relative_key_query": "position_embedding_type",
    "roberta/position_embedding_type relative_key": "position_embedding_type",
    "bert/adapter": "adapter",
    # Weights.
    "weights/a tensor is missing": "encoder.layer.1.output.dense.weight",
    "weights/a tensor is unknown": "encoder.layer.0.adapter.dense.weight",
    "weights/a tensor of another shape": "encoder.layer.0.output.dense.bias",
    "weights/tf_model.h5 alone": "tf_model.h5",
    "weights/onnx alone": "model.onnx",
    "weights/none": "model.safetensors",
    "plain/BertForMaskedLM": "pooler",
    "plain/distilbert": "pooler",
}
MODEL_TYPE = "model type/"

# A cosine of 0.999999 would still let a GELU of another formula pass.
DISTANCE = 3e-5


def missing(name: str) -> str | None:
    """What a refusal has to name; `None` where there is to be none."""
    cell = name.partition("/")[2]
    if cell.startswith(MODEL_TYPE):
        return cell.removeprefix(MODEL_TYPE)
    return REFUSED.get(cell)


EQUAL = [name for name in foreign.names() if missing(name) is None]
# What both versions of sentence-transformers wrote: all of it as the newer one did, and
# of the older one's some, or all where there is time.
SOME = ("cls", "cls+max", "mean", "prompt", "two dense", "added token", "sharded")
# Pooling is the same code for each family: BERT has all of them, the others some.
POOLINGS = ("lasttoken", "max", "mean+mean_sqrt_len", "mean_sqrt_len", "weightedmean")


def sampled(name: str) -> bool:
    version, family, what = name.split("/", 2)
    if family not in ("bert", "old") and what in POOLINGS:
        return False
    return version == "6" or f"6/{family}/{what}" not in foreign.names() or what in SOME


SAMPLED = [
    pytest.param(name, marks=() if sampled(name) else pytest.mark.attack)
    for name in EQUAL
]


def assert_equal(embeddings: np.ndarray, references: np.ndarray) -> None:
    """The same directions, row by row."""
    references = references.astype(np.float64)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    assert embeddings.shape == references.shape
    assert (embeddings * references).sum(1).min() >= 0.999999
    assert np.linalg.norm(embeddings - references, axis=1).max() <= DISTANCE


@pytest.mark.parametrize("name", SAMPLED)
def test_a_checkpoint_embeds_as_in_the_library_that_wrote_it(
    name, checkpoints, eagerly
):
    model = SimCSE.from_preset(**checkpoints.arguments(name))

    embeddings = model(model.preprocess(checkpoints.sentences)).numpy()

    assert model.reading
    assert_equal(embeddings, checkpoints.embeddings[name])


@pytest.mark.parametrize("name", [n for n in foreign.names() if missing(n)])
def test_what_is_not_implemented_is_refused_by_name(name, checkpoints):
    with pytest.raises(UserError) as refusal:
        SimCSE.from_preset(**checkpoints.arguments(name))

    message = str(refusal.value)
    assert missing(name) in message
    assert "\n" not in message


def test_so_many_are_equal_and_so_many_are_refused():
    names = foreign.names()
    count = len(names) - len(EQUAL)
    print(f"{len(names)} checkpoints: {len(EQUAL)} equal, {count} refused")

    assert (len(EQUAL), count) == (274, 80)
    assert REFUSED.keys() <= {name.partition("/")[2] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "6/roberta/added lstrip",
        # test_exported_families.py serves a prompt.
        pytest.param("6/bert/prompt", marks=pytest.mark.attack),
        # Of these families test_families.py and test_exported_families.py do the same.
        pytest.param("6/distilbert/mean", marks=pytest.mark.attack),
        pytest.param("5/xlm-roberta/cls+max", marks=pytest.mark.attack),
    ],
)
def test_every_way_to_embeddings_is_the_same(name, checkpoints, tmp_path, monkeypatch):
    # It loads what is loaded below.
    leave_unchecked(monkeypatch)
    model = SimCSE.from_preset(**checkpoints.arguments(name))
    references = checkpoints.embeddings[name]

    with run_eagerly():
        assert_equal(model.predict(checkpoints.sentences), references)
        assert_equal(encode(model, checkpoints.sentences), references)
        model.save_to_preset(str(tmp_path / "ours"))
        again = SimCSE.from_preset(str(tmp_path / "ours"))
        assert_equal(again.predict(checkpoints.sentences), references)
    version = saved_model.export(again, str(tmp_path / "served"))
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    served = serve(text=tf.constant(checkpoints.sentences))["embedding"].numpy()
    assert_equal(served, references)
