import numpy as np
import pytest

from simcse_tf.core.errors import UserError
from simcse_tf.encoders.heads import (
    DenseLayer,
    dense_head,
    head_tensors,
    mlp_head,
    parse_dense,
)


def test_a_stack_is_its_layers_one_after_the_other():
    layers = [DenseLayer(5, "relu"), DenseLayer(3, "identity", use_bias=False)]
    head = dense_head(layers, 4, "float32")
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=shape) for shape in ((4, 5), (5,), (5, 3))]
    head.set_weights(weights)
    inputs = rng.normal(size=(7, 4)).astype("float32")
    expected = np.maximum(inputs @ weights[0] + weights[1], 0) @ weights[2]
    np.testing.assert_allclose(head(inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (mlp_head(4, "float32"), ["kernel", "bias"]),
        (
            dense_head([DenseLayer(5, use_bias=False), DenseLayer(3)], 4, "float32"),
            ["dense_0.kernel", "dense_1.kernel", "dense_1.bias"],
        ),
    ],
)
def test_tensors_have_names_in_the_order_of_the_weights(head, names):
    tensors = head_tensors(head)
    assert list(tensors) == names
    for one, other in zip(tensors.values(), head.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"unit": 3}, "expected the keys units, activation, use_bias; received unit"),
        ({}, "received none"),
        ({"units": 0}, "units must be positive; received 0"),
        ({"units": "3"}, "units must be positive; received '3'"),
        ({"units": 3, "use_bias": 1}, "use_bias must be a bool; received 1"),
        ({"units": 3, "activation": "tan"}, "activation must be one of .*'tan'"),
    ],
)
def test_a_layer_that_is_none_is_told(layer, message):
    with pytest.raises(UserError, match=message):
        parse_dense([layer])
