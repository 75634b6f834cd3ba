import keras
import numpy as np
import tensorflow as tf

from simcse_tf.encoders import dropout


def layers():
    return keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Dropout(0.5)])


def masks(model, seed):
    with dropout.dropout_seed_scope(tf.constant(seed), dropout.random_states(model)):
        return model(tf.ones((4, 50)), training=True).numpy()


def test_a_seed_decides_the_masks_and_nothing_else_moves():
    keras.utils.set_random_seed(1)
    model = layers()
    model(tf.ones((4, 50)))
    before = [state.numpy() for state in dropout.random_states(model)]
    assert len(before) == 2
    first = masks(model, [1, 2])
    np.testing.assert_array_equal(masks(model, [1, 2]), first)
    assert (masks(model, [1, 3]) != first).any()
    for state, value in zip(dropout.random_states(model), before, strict=True):
        np.testing.assert_array_equal(state.numpy(), value)


def test_layers_draw_masks_of_their_own():
    model = layers()
    # Two equal masks at rate 0.5 would keep half of the values.
    kept = np.mean([masks(model, [1, i]) != 0 for i in range(20)])
    assert 0.2 < kept < 0.3


def test_a_model_without_dropout_has_nothing_to_draw():
    model = keras.Sequential([keras.layers.Dense(3)])
    assert masks(model, [1, 2]).shape == (4, 3)
