"""The padded grid beside the packed tokens: the same numbers."""

import numpy as np
import pytest
import tensorflow as tf
from support.families import make_family_preset
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.objectives.views import embed_views, stack_views

TEXTS = [text * (1 + 2 * i % 3) for i, text in enumerate(SENTENCES)]


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "avg_first_last"])
def test_embeddings_and_gradients_are_those_of_packed_tokens(small_preset, pooling):
    results = []
    for static_shapes in (False, True):
        model = SimCSE.from_preset(
            str(small_preset), pooling=pooling, dropout=0.0, static_shapes=static_shapes
        )
        views = stack_views(model.prepare(tf.constant(TEXTS)))
        with tf.GradientTape() as tape:
            seed = tf.constant([1, 2])
            embedded = embed_views([model.embedder] * 2, views, seed, False)
            loss = tf.reduce_sum(embedded[:, :, :3] ** 3)
        gradients = tape.gradient(loss, model.trainable_variables)
        inferred = model.predict(TEXTS, verbose=0)
        results.append([embedded, inferred, *map(tf.convert_to_tensor, gradients)])
    for packed, static in zip(*results, strict=True):
        np.testing.assert_allclose(static, packed, atol=2e-5)


def test_masks_of_other_sentences_differ(tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset), dropout=0.3, static_shapes=True)
    features = model.preprocess([SENTENCES[0]] * 3)
    one = model.embedder.embed(features, seed=tf.constant([1, 2]))
    again = model.embedder.embed(features, seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one[0] - one[1]).max() > 1e-3


def test_a_padding_token_within_a_text_has_one_embedding(tmp_path):
    make_family_preset("roberta", tmp_path / "roberta")
    results = []
    for static_shapes in (False, True):
        model = SimCSE.from_preset(
            str(tmp_path / "roberta"), pooling="avg", static_shapes=static_shapes
        )
        rows = [[0, 300, 1, 301, 2], [0, 305, 2], [0, 1, 1, 302, 303, 304, 2]]
        rows = [
            [token % model.tokenizer.vocabulary_size for token in row] for row in rows
        ]
        tokens = tf.ragged.constant(rows, dtype=tf.int32)
        results.append(model.embedder.embed(model.pad(tokens, 8)).numpy())
    np.testing.assert_allclose(*results, atol=1e-6)
