"""A pooling of the user's own in place of a checkpoint's."""

from pathlib import Path

import numpy as np
import pytest

from simcse_tf import SimCSE
from simcse_tf.checkpoints.sentence_transformers import read_modules


def notes(checkpoints, name, pooling):
    directory = checkpoints.arguments(name)["preset"]
    return read_modules(Path(directory), pooling).notes


def test_what_it_replaces_is_named(checkpoints):
    assert notes(checkpoints, "6/bert/mean", "max") == ("its mean pooling replaced",)
    assert notes(checkpoints, "6/bert/cls+max", "avg") == (
        "its [CLS]+max pooling replaced",
    )
    assert notes(checkpoints, "6/bert/dense tanh", "cls") == (
        "its mean pooling replaced",
        "its Dense left out",
    )


def test_nothing_is_said_where_it_replaces_nothing(checkpoints):
    assert notes(checkpoints, "6/bert/mean", "avg") == ()
    assert notes(checkpoints, "6/plain/bert", "avg") == ()


def test_modules_that_are_not_computed_here_may_be_replaced(checkpoints):
    assert notes(checkpoints, "6/bert/layer norm", "avg") == ("its LayerNorm left out",)


@pytest.mark.parametrize("pooling", [None, "cls"])
def test_a_dense_module_that_is_the_papers_head_stays_one(checkpoints, pooling):
    name = "6/roberta/cls, dense tanh"
    model = SimCSE.from_preset(**checkpoints.arguments(name), pooling=pooling)
    found = model(model.preprocess(checkpoints.sentences)).numpy()
    expected = checkpoints.embeddings[name]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)

    np.testing.assert_allclose(found, expected, atol=1e-5)
