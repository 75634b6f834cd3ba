import numpy as np
import pytest

from simcse_tf.encoders.pooling import POOLINGS, layers_read, pool

RNG = np.random.default_rng(0)
LAYERS = RNG.normal(size=(4, 2, 5, 3)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "int32")


def mean_of_tokens(states):
    return np.stack([states[0, :3].mean(axis=0), states[1].mean(axis=0)])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("cls", LAYERS[3][:, 0]),
        ("cls_before_pooler", LAYERS[3][:, 0]),
        ("avg", mean_of_tokens(LAYERS[3])),
        ("avg_top2", mean_of_tokens((LAYERS[2] + LAYERS[3]) / 2)),
        ("avg_first_last", mean_of_tokens((LAYERS[0] + LAYERS[3]) / 2)),
    ],
)
def test_poolers_read_the_layers_and_tokens_of_their_name(pooling, expected):
    states = [LAYERS[index] for index in layers_read(pooling)]
    np.testing.assert_allclose(pool(states, MASK, pooling), expected, rtol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_nothing(pooling):
    states = [LAYERS[index][:1] for index in layers_read(pooling)]
    cut = [state[:, :3] for state in states]
    np.testing.assert_allclose(
        pool(states, MASK[:1], pooling), pool(cut, MASK[:1, :3], pooling), rtol=1e-6
    )


def test_an_unknown_pooler_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="avg_top2.*'maximum'"):
        layers_read("maximum")
