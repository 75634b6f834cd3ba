import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.encoders.packing import padded
from simcse_tf.encoders.products import Products


class PreparedProducts(Products):
    """Products that say how many rows they get."""

    few_sizes = True

    def __init__(self):
        self.rows_seen = set()

    def dense(self, inputs, weights):
        self.rows_seen.add(int(inputs.shape[0]))
        return super().dense(inputs, weights)


@pytest.mark.parametrize(
    ("cells", "tokens"), [((1, 7), 16), ((2, 8), 16), ((16, 16), 256), ((9, 31), 320)]
)
def test_tokens_are_filled_up_to_one_of_few_numbers(cells, tokens):
    ones = tf.ones(cells, tf.int32)
    packing = padded({"token_ids": ones, "padding_mask": ones}, 2, few_sizes=True)
    assert packing.token_ids.shape == (tokens,)
    assert packing.positions.shape == (tokens,)
    rows = tf.range(tokens, dtype=tf.float32)[:, None]
    grid = tf.reshape(tf.range(cells[0] * cells[1], dtype=tf.float32), [*cells, 1])
    np.testing.assert_array_equal(packing.pad(rows), grid)


@pytest.mark.parametrize("pooling", ["cls", "avg"])
def test_tokens_that_fill_up_change_no_embedding(tiny_preset, pooling):
    model = SimCSE.from_preset(str(tiny_preset), pooling=pooling)
    features = model.preprocess(SENTENCES)
    expected = model.embedder.embed(features)
    products = PreparedProducts()
    model.embedder.encoder = model.embedder.encoder.computing_with(products)
    np.testing.assert_allclose(model.embedder.embed(features), expected, atol=1e-6)
    assert any(rows % 16 == 0 for rows in products.rows_seen)
