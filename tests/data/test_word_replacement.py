import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.models import MINILM

from simcse_tf.checkpoints.load import load_tokenizer
from simcse_tf.checkpoints.resolve import resolve
from simcse_tf.core.errors import UserError
from simcse_tf.data.word_replacement import WordReplacer
from simcse_tf.training.config import parse_config
from simcse_tf.training.run_data import training_source

SURE = ("mountain", "river", "##ing", "[PAD]", "the")


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory):
    """MiniLM with a masked language model whose bias knows five tokens only."""
    directory = tmp_path_factory.mktemp("mlm")
    source = Path(resolve(MINILM))
    for file in source.iterdir():
        if file.name != "model.safetensors":
            os.symlink(file, directory / file.name)
    vocabulary = load_tokenizer(MINILM).vocabulary
    bias = np.full(len(vocabulary), -50, "float32")
    for token in SURE:
        bias[vocabulary.index(token)] = 50
    head = {
        "transform.dense.weight": np.zeros((384, 384), "float32"),
        "transform.dense.bias": np.zeros(384, "float32"),
        "transform.LayerNorm.weight": np.zeros(384, "float32"),
        "transform.LayerNorm.bias": np.zeros(384, "float32"),
        "bias": bias,
    }
    tensors = load_file(source / "model.safetensors")
    tensors |= {f"cls.predictions.{name}": value for name, value in head.items()}
    save_file(tensors, directory / "model.safetensors")
    return str(directory)


@pytest.fixture(scope="module")
def replacer(masked_lm):
    """Loaded and traced once."""
    return WordReplacer(masked_lm, rate=0.3)


@pytest.fixture
def replace(replacer, monkeypatch):
    """Replaces words of sentences, a share of them that a test names."""

    def replace(sentences, generators, rate):
        monkeypatch.setattr(replacer, "rate", rate)
        return replacer(sentences, generators)

    return replace


def generators(count, seed=0):
    return [np.random.default_rng([seed, index]) for index in range(count)]


@pytest.mark.slow
def test_its_share_of_words_is_drawn_from_the_prediction(replacer):
    sentence = "Naïve  people unbelievably walked along the shore"
    words = sentence.split()
    replaced = [text.split() for text in replacer([sentence] * 200, generators(200))]
    changed = [
        (old, new)
        for row in replaced
        for old, new in zip(words, row, strict=True)
        if old != new
    ]
    assert len(changed) / (200 * len(words)) == pytest.approx(0.3, abs=0.04)
    assert {old for old, _ in changed} == set(words)
    # Neither a continuation nor a special token, and never the word itself.
    assert {new for _, new in changed} == {"mountain", "river", "the"}
    assert {new for old, new in changed if old == "the"} == {"mountain", "river"}


@pytest.mark.slow
def test_a_sentence_depends_on_its_own_generator_alone(replace):
    sentences = ["a short one", "", "a much longer sentence than the others here"]
    together = replace(sentences, generators(3), 0.5)
    alone = [replace([s], [generators(3)[i]], 0.5)[0] for i, s in enumerate(sentences)]
    assert together == alone
    assert together[1] == ""
    assert replace(sentences, generators(3, seed=1), 0.5) != together


@pytest.mark.slow
def test_words_past_the_models_limit_stay(replace):
    [text] = replace(["word " * 600], generators(1), 0.9)
    words = text.split()
    assert len(words) == 600
    assert words[510:] == ["word"] * 90
    assert words[:500].count("word") < 100


def test_a_model_without_masked_language_model_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("a\nb\n")
    config = {
        "model": {"preset": MINILM},
        "data": {"train": str(tmp_path / "t.txt"), "augmentation": "mlm"},
        "output_dir": "o",
    }
    with pytest.raises(UserError, match=r"mlm: .* holds no masked language model; "):
        training_source(parse_config(config))


@pytest.mark.slow
def test_the_config_names_the_model_that_augments(masked_lm, tmp_path):
    (tmp_path / "t.txt").write_text("one two three\n")
    config = {
        "model": {"preset": MINILM},
        "data": {
            "train": str(tmp_path / "t.txt"),
            "augmentation": "mlm",
            "augmentation_rate": 0.99,
            "augmentation_model": masked_lm,
        },
        "output_dir": "o",
    }
    source = training_source(parse_config(config))
    [(anchor, positive)] = source.read([0], 0)
    assert anchor == b"one two three"
    assert set(positive.decode().split()) <= {"mountain", "river", "the"}
