import os
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from support.models import MINILM, SENTENCES
from support.transformers import ARCHITECTURES, Reference

from simcse_tf import SimCSE
from simcse_tf.checkpoints.masked_lm_head import set_masked_lm_head
from simcse_tf.checkpoints.resolve import resolve
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.families import encoder_of
from simcse_tf.encoders.keras_layers import configure_layers
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.masked_lm import (
    NOT_PREDICTED,
    MaskedLM,
    mask_tokens,
    masked_lm_head,
    masked_lm_loss,
)
from simcse_tf.tokenizers.bert import BertTokenizer
from simcse_tf.training.optimizer import adam

PAD, CLS, SEP, MASK, VOCABULARY = 0, 1, 2, 3, 1000


def mask(token_ids, seed=(1, 2), probability=0.15):
    masked, labels = mask_tokens(
        tf.constant(token_ids, tf.int32),
        tf.constant(seed),
        probability=probability,
        mask_token_id=MASK,
        special_token_ids=(PAD, CLS, SEP),
        vocabulary_size=VOCABULARY,
    )
    return masked.numpy(), labels.numpy()


def test_tokens_are_hidden_in_berts_proportions():
    token_ids = np.full((400, 400), 7)
    masked, labels = mask(token_ids)
    chosen = labels != NOT_PREDICTED
    assert chosen.mean() == pytest.approx(0.15, abs=0.005)
    assert (masked[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.01)
    # One random token in a thousand is the token itself.
    assert (masked[chosen] == 7).mean() == pytest.approx(0.1, abs=0.01)
    drawn = masked[chosen & (masked != MASK) & (masked != 7)]
    assert drawn.min() < 20
    assert drawn.max() > VOCABULARY - 20


@settings(max_examples=50, deadline=None)
@given(
    token_ids=st.lists(
        st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=5
    ),
    seed=st.integers(0, 2**31 - 1),
    probability=st.floats(0.05, 0.95),
)
def test_labels_are_the_hidden_tokens_and_special_ones_stay(
    token_ids, seed, probability
):
    token_ids = np.array(token_ids)
    masked, labels = mask(token_ids, (seed, 0), probability)
    chosen = labels != NOT_PREDICTED
    np.testing.assert_array_equal(labels[chosen], token_ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], token_ids[~chosen])
    assert not np.isin(token_ids[chosen], (PAD, CLS, SEP)).any()
    again, _ = mask(token_ids, (seed, 0), probability)
    np.testing.assert_array_equal(masked, again)


def test_the_loss_is_the_cross_entropy_at_the_hidden_tokens():
    keras.utils.set_random_seed(1)
    embedding = keras_hub.layers.ReversibleEmbedding(11, 4)
    embedding.build()
    head = keras_hub.layers.MaskedLMHead(
        token_embedding=embedding, intermediate_activation="gelu"
    )
    head.build((None, None, 4))
    states = np.random.default_rng(1).normal(size=(2, 3, 4)).astype("float32")
    labels = np.array([[-1, 5, -1], [10, -1, 0]], "int32")
    expected = 0.0
    for row, position in zip(*np.nonzero(labels != NOT_PREDICTED), strict=True):
        x = head._intermediate_dense(states[row, position][None])
        x = head._intermediate_layer_norm(x)[0].numpy()
        logits = embedding.embeddings.numpy() @ x + head._bias.numpy()
        expected -= (logits - np.log(np.exp(logits).sum()))[labels[row, position]]
    found = masked_lm_loss(head, tf.constant(states), tf.constant(labels))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    nothing = masked_lm_loss(head, tf.constant(states), tf.fill((2, 3), NOT_PREDICTED))
    assert float(nothing) == 0.0


@pytest.mark.slow
def test_training_lowers_both_losses(tiny_preset, tmp_path):
    keras.utils.set_random_seed(1)
    model = SimCSE.from_preset(str(tiny_preset), head_init="random")
    model.compile(adam(1e-2), objective=Contrastive() + MaskedLM(0.1))
    history = model.fit(SENTENCES, batch_size=8, epochs=15, verbose=0).history
    assert history["mlm_loss"][-1] < history["mlm_loss"][0] - 1
    contrastive = np.subtract(history["loss"], 0.1 * np.array(history["mlm_loss"]))
    assert contrastive[-1] < contrastive[0]
    # What is saved embeds, and needs no masked LM.
    model.save_to_preset(str(tmp_path / "saved"))
    loaded = SimCSE.from_preset(str(tmp_path / "saved"))
    assert not loaded.objective_layers
    np.testing.assert_allclose(
        loaded.predict(SENTENCES, verbose=0),
        model.predict(SENTENCES, verbose=0),
        atol=1e-6,
    )


def test_the_head_of_a_hugging_face_checkpoint_is_taken(tmp_path):
    source = Path(resolve(MINILM))
    for file in source.iterdir():
        if file.name != "model.safetensors":
            os.symlink(file, tmp_path / file.name)
    rng = np.random.default_rng(1)
    head = {
        "transform.dense.weight": rng.normal(size=(384, 384)),
        "transform.dense.bias": rng.normal(size=384),
        "transform.LayerNorm.gamma": rng.normal(size=384),
        "transform.LayerNorm.beta": rng.normal(size=384),
        "bias": rng.normal(size=30522),
    }
    head = {name: value.astype("float32") for name, value in head.items()}
    tensors = load_file(source / "model.safetensors")
    tensors |= {f"cls.predictions.{name}": value for name, value in head.items()}
    save_file(tensors, tmp_path / "model.safetensors")

    model = SimCSE.from_preset(str(tmp_path))
    objective = MaskedLM(0.1)
    objective.build(model)
    states = rng.normal(size=384).astype("float32")
    x = head["transform.dense.weight"] @ states + head["transform.dense.bias"]
    x = keras.activations.gelu(x, approximate=False).numpy()
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-12)
    x = x * head["transform.LayerNorm.gamma"] + head["transform.LayerNorm.beta"]
    words = model.backbone.token_embedding.embeddings.numpy()
    found = objective.head(states[None, None], np.array([[0]]))[0, 0]
    np.testing.assert_allclose(found, words @ x + head["bias"], rtol=1e-3, atol=1e-3)


def test_a_vocabulary_without_mask_is_told(tiny_preset, monkeypatch):
    model = SimCSE.from_preset(str(tiny_preset))
    monkeypatch.setattr(model.tokenizer, "mask_token_id", None)
    with pytest.raises(UserError, match=r"needs a mask token"):
        model.compile("adam", objective=Contrastive() + MaskedLM(0.1))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_familys_head_predicts_what_that_of_transformers_does(name):
    reference = Reference(name)
    backbone = reference.backbone()
    configure_layers(backbone, reference.architecture.activation)
    tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    head = masked_lm_head(backbone, tokenizer)
    assert set_masked_lm_head(head, reference.masked_lm)
    assert not set_masked_lm_head(head, {})
    encoder = encoder_of(backbone)
    [states] = encoder.hidden_states(encoder.weights(), reference.features(backbone))
    is_token = reference.masks[0, 0, :2] > 0
    places = np.arange(states.shape[1])[None].repeat(2, axis=0)
    received = head(states[:2], places).numpy()
    np.testing.assert_allclose(
        received[is_token], reference.logits[is_token], atol=1e-4
    )
