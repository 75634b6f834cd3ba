import pytest

from simcse_tf.encoders.compat import newer_name


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"bert.x.LayerNorm.gamma"}, "bert.x.LayerNorm.gamma"),
        ({"bert.x.LayerNorm.weight"}, "bert.x.LayerNorm.weight"),
        ({"x.LayerNorm.gamma"}, "x.LayerNorm.gamma"),
        ({"x.LayerNorm.weight", "x.LayerNorm.bias"}, "x.LayerNorm.weight"),
        ({"x.LayerNorm.bias"}, None),
    ],
)
def test_a_tensor_is_found_under_its_old_and_its_new_names(names, expected):
    assert newer_name("bert.x.LayerNorm.gamma", names) == expected
