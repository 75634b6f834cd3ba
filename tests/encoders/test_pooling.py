import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.pooling import (
    POOLINGS,
    layers_read,
    pool,
    reads_first_token,
)

LAYERS, LENGTH, DIM = 4, 6, 3


def weighted(weights):
    """Of one sentence's states: a sum of the tokens, divided by that of the weights."""
    return lambda states: np.average(
        states, axis=0, weights=weights(len(states))
    ).astype("float32")


mean = weighted(np.ones)
# What each pooler makes of a sentence's hidden states, `(layers, tokens, dim)`.
EXPECTED = {
    "cls": lambda layers: layers[-1][0],
    "cls_before_pooler": lambda layers: layers[-1][0],
    "avg": lambda layers: mean(layers[-1]),
    "avg_top2": lambda layers: mean((layers[-2] + layers[-1]) / 2),
    "avg_first_last": lambda layers: mean((layers[0] + layers[-1]) / 2),
    "max": lambda layers: layers[-1].max(axis=0),
    "mean_sqrt_len": lambda layers: layers[-1].sum(axis=0) / np.sqrt(len(layers[-1])),
    "weightedmean": lambda layers: weighted(lambda count: np.arange(1, count + 1))(
        layers[-1]
    ),
    "lasttoken": lambda layers: layers[-1][-1],
}
COMBINABLE = [name for name in POOLINGS if name != "cls"]


def test_every_pooler_is_tested():
    assert set(EXPECTED) == set(POOLINGS)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, LENGTH), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
    pooling=st.one_of(
        st.sampled_from(POOLINGS),
        st.lists(st.sampled_from(COMBINABLE), min_size=2, max_size=4).map("+".join),
    ),
)
def test_poolers_are_what_numpy_makes_of_each_sentence_alone(lengths, seed, pooling):
    rng = np.random.default_rng(seed)
    shape = (LAYERS, len(lengths), LENGTH, DIM)
    # Padding holds the largest values: a pooler that reads it is found out.
    states = rng.normal(size=shape).astype("float32")
    mask = np.arange(LENGTH) < np.array(lengths)[:, None]
    states = np.where(mask[:, :, None], states, np.float32(100))
    received = pool(
        [states[layer] for layer in layers_read(pooling)],
        mask.astype("int32"),
        pooling,
    )
    expected = [
        np.concatenate(
            [EXPECTED[name](states[:, i, :length]) for name in pooling.split("+")]
        )
        for i, length in enumerate(lengths)
    ]
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_a_combination_reads_each_layer_once():
    assert layers_read("avg_first_last+avg_top2+max") == (0, -1, -2)


def test_first_tokens_alone_are_read_where_nothing_else_is_pooled():
    assert reads_first_token("cls")
    assert reads_first_token("cls_before_pooler")
    assert not reads_first_token("cls_before_pooler+avg")
    assert not reads_first_token("lasttoken")


def test_an_unknown_pooler_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="avg_top2.*'maximum'"):
        layers_read("avg+maximum")


def test_the_pooler_with_a_head_stands_alone():
    with pytest.raises(UserError, match="stands alone: take cls_before_pooler"):
        layers_read("cls+avg")
