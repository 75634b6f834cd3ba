"""A second backbone family is its tokenizer, its encoder and one line."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encoders import families
from simcse_tf.encoders.bert import BertEncoder
from simcse_tf.encoders.families import FAMILIES, Family, encoder_of, tokenizer_of
from simcse_tf.encoders.keras_layers import KerasLayersEncoder
from simcse_tf.encoding.bulk import encode
from simcse_tf.exporting import signatures
from simcse_tf.tokenizers.bert import BertTokenizer


class DoubleTokenizer(BertTokenizer):
    """What a file in `tokenizers/` would hold."""

    def to_keras_hub(self):
        return keras_hub.models.DistilBertTokenizer(self.vocabulary, self.lowercase)


class DoubleEncoder(KerasLayersEncoder):
    """What a file in `encoders/` would hold."""


DOUBLE = Family(
    keras_hub.models.DistilBertBackbone,
    keras_hub.models.DistilBertTokenizer,
    DoubleTokenizer,
    DoubleEncoder,
)


@pytest.fixture
def preset(small_preset, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", [*FAMILIES, DOUBLE])
    vocabulary = SimCSE.from_preset(str(small_preset)).tokenizer.vocabulary
    backbone = keras_hub.models.DistilBertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(tmp_path / "double"))
    tokenizer = DoubleTokenizer(vocabulary).to_keras_hub()
    tokenizer.save_to_preset(str(tmp_path / "double"))
    return str(tmp_path / "double")


@pytest.mark.slow
def test_a_family_trains_saves_encodes_and_exports(preset, tmp_path):
    model = SimCSE.from_preset(preset, pooling="avg", max_length=32)
    assert type(model.embedder.encoder) is DoubleEncoder
    assert type(model.tokenizer) is DoubleTokenizer
    model.compile("adam")
    history = model.fit(SENTENCES, batch_size=8, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()

    expected = model.predict(SENTENCES, verbose=0)
    np.testing.assert_allclose(encode(model, SENTENCES), expected, atol=2e-6)
    served = signatures.embedder(model)(tf.constant(SENTENCES))
    np.testing.assert_allclose(served, expected, atol=2e-6)
    model.save_to_preset(str(tmp_path / "saved"))
    for loaded in (
        SimCSE.from_preset(str(tmp_path / "saved")),
        SimCSE.from_config(model.get_config()),
    ):
        assert type(loaded.tokenizer) is DoubleTokenizer
        assert type(loaded.embedder.encoder) is DoubleEncoder
    loaded = SimCSE.from_preset(str(tmp_path / "saved"))
    np.testing.assert_allclose(
        loaded.predict(SENTENCES, verbose=0), expected, atol=1e-6
    )


def test_one_function_chooses_the_encoder(small_preset, preset):
    bert = SimCSE.from_preset(str(small_preset)).backbone
    other = SimCSE.from_preset(preset, pooling="avg").backbone
    assert type(encoder_of(bert)) is BertEncoder
    assert type(encoder_of(other)) is DoubleEncoder
    assert type(encoder_of(bert, static_shapes=True)) is BertEncoder


def test_a_tokenizer_of_no_family_is_refused():
    tokenizer = keras_hub.tokenizers.ByteTokenizer()
    with pytest.raises(UserError, match="it uses a ByteTokenizer; .*WordPiece"):
        tokenizer_of(tokenizer, "it")
