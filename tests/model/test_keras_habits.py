"""What a Keras user tries: the rows of `docs/keras.md`, each as it stands there."""

import functools
import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE

PAGE = (ROOT / "docs" / "keras.md").read_text("utf-8")


def rows(heading):
    """The rows of the table below a heading, as pairs of cells."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+`) \| (.+) \|$", table, re.MULTILINE)
    return [(one.strip("`"), other.strip("`")) for one, other in cells]


class Frame(dict):
    """What is used of a pandas DataFrame."""

    columns = property(dict.keys)
    shape = property(lambda self: self.to_numpy().shape)

    def to_numpy(self):
        return np.array([*self.values()], dtype=object).T

    def __array__(self, dtype=None, copy=None):
        return self.to_numpy()


def characters(text, max_length=None, prompt=None):
    """One token a character: a pipeline of the real ones takes a second to start."""
    return tf.strings.unicode_decode(text, "UTF-8")[:, :32] % 1000


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.fixture(scope="module")
def run(tiny_preset):
    """Runs a line on the same model, and gives what it is worth."""
    # Without dropout a batch's loss does not depend on the order of its examples.
    model = SimCSE.from_preset(str(tiny_preset), max_length=32, dropout=0.0)
    model.tokens = characters
    weights = model.get_weights()
    anchors, positives = SENTENCES[:4], SENTENCES[2:6]
    names = {
        "model": model,
        "texts": SENTENCES,
        "anchors": anchors,
        "positives": positives,
        "negatives": SENTENCES[4:],
        "dataset": tf.data.Dataset.from_tensor_slices((anchors, positives)),
        "frame": Frame(anchor=anchors, positive=positives),
        "text": keras.Input([], dtype="string"),
        "Batches": Batches,
        **{each.__name__: each for each in (itertools, keras)},
        "np": np,
        "tf": tf,
    }

    @functools.cache
    def run(line):
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        result = eval(line, names)
        if isinstance(result, keras.callbacks.History):
            return [*result.history["loss"], *result.history.get("val_loss", [])]
        return np.asarray(result)

    return run


# Keras says so of a generator that ends.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(("line", "other"), rows("What works"))
def test_a_habit_works(run, line, other):
    received, expected = run(line), run(other)
    np.testing.assert_allclose(np.ravel(received), np.ravel(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("line", "message"), rows("What is refused, and what the line says")
)
def test_a_habit_is_refused_in_one_line(run, line, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)) as caught:
        run(line)
    assert "\n" not in str(caught.value)
