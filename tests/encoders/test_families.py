"""A backbone family is its tokenizer, its encoder and one line."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from support.families import FAMILY_NAMES, make_family_preset
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encoders import families
from simcse_tf.encoders.bert import BertEncoder
from simcse_tf.encoders.families import (
    FAMILIES,
    Family,
    encoder_of,
    save_tokenizer,
    tokenizer_of,
)
from simcse_tf.encoders.keras_layers import KerasLayersEncoder
from simcse_tf.encoders.transformer import PlainEncoder
from simcse_tf.exporting.served_embedder import embedder
from simcse_tf.model.bulk import encode
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.masked_lm import MaskedLM
from simcse_tf.tokenizers.bert import BertTokenizer


@pytest.mark.usefixtures("eagerly")
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_a_family_trains_saves_encodes_and_exports(name, tmp_path):
    make_family_preset(name, tmp_path / "preset")
    model = SimCSE.from_preset(
        str(tmp_path / "preset"), pooling="cls", head_init="random", max_length=32
    )
    assert isinstance(model.embedder.encoder, PlainEncoder)
    model.compile("adam", objective=Contrastive() + MaskedLM(0.1))
    before = [variable.numpy() for variable in model.trainable_variables]
    history = model.fit(SENTENCES, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path

    expected = model.predict(SENTENCES, verbose=0)
    np.testing.assert_allclose(encode(model, SENTENCES), expected, atol=2e-6)
    served = embedder(model)(tf.constant(SENTENCES)).embedding
    np.testing.assert_allclose(served, expected, atol=2e-6)
    static = SimCSE(
        model.backbone, model.tokenizer, static_shapes=True, **model.settings()
    )
    static.head.set_weights(model.head.get_weights())
    layers = static(static.preprocess(tf.constant(SENTENCES)))
    np.testing.assert_allclose(layers, expected, atol=2e-6)

    model.save_to_preset(str(tmp_path / "saved"))
    loaded = SimCSE.from_preset(str(tmp_path / "saved"))
    assert type(loaded.tokenizer) is type(model.tokenizer)
    again = loaded(loaded.preprocess(tf.constant(SENTENCES)))
    np.testing.assert_allclose(again, expected, atol=1e-6)
    configured = SimCSE.from_config(model.get_config())
    assert configured.tokenize(SENTENCES) == model.tokenize(SENTENCES)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_keras_hub_knows_a_saved_tokenizer_as_the_backbones(name, tmp_path):
    """Its models are loaded with KerasHub alone too."""
    make_family_preset(name, tmp_path)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path))
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path))
    assert type(tokenizer).backbone_cls is type(backbone)


class NewTokenizer(BertTokenizer):
    """What a file in `tokenizers/` would hold."""

    def to_keras_hub(self):
        return keras_hub.models.ElectraTokenizer(self.vocabulary, self.lowercase)


class NewEncoder(KerasLayersEncoder):
    """What a file in `encoders/` would hold."""


NEW = Family(
    keras_hub.models.ElectraBackbone,
    keras_hub.models.ElectraTokenizer,
    NewTokenizer,
    NewEncoder,
)


@pytest.fixture
def new_preset(small_preset, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", [*FAMILIES, NEW])
    vocabulary = SimCSE.from_preset(str(small_preset)).tokenizer.vocabulary
    backbone = keras_hub.models.ElectraBackbone(
        vocab_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        embedding_dim=16,
        intermediate_dim=32,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(tmp_path / "new"))
    save_tokenizer(NewTokenizer(vocabulary), backbone, str(tmp_path / "new"))
    return str(tmp_path / "new")


def test_one_line_adds_a_family(small_preset, new_preset, tmp_path):
    bert = SimCSE.from_preset(str(small_preset)).backbone
    model = SimCSE.from_preset(new_preset, pooling="avg")
    model.save_to_preset(str(tmp_path / "saved"))
    for loaded in (
        model,
        SimCSE.from_preset(str(tmp_path / "saved")),
        SimCSE.from_config(model.get_config()),
    ):
        assert type(loaded.tokenizer) is NewTokenizer
        assert type(loaded.embedder.encoder) is NewEncoder
    assert type(encoder_of(bert)) is BertEncoder
    assert type(encoder_of(bert, static_shapes=True)) is BertEncoder


def test_a_tokenizer_of_no_family_is_refused():
    tokenizer = keras_hub.tokenizers.ByteTokenizer()
    with pytest.raises(UserError, match="it uses a ByteTokenizer; .*WordPiece"):
        tokenizer_of(tokenizer, "it")
