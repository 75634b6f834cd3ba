"""`predict` of a list is `encode`; Keras' loop runs where something is to see it."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encode import encode

TEXTS = [f"{text} {number}" for number in range(3) for text in SENTENCES]


@pytest.fixture(scope="module")
def model(tiny_preset):
    return SimCSE.from_preset(str(tiny_preset), max_length=32)


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_predict_batch_end(self, batch, logs=None):
        self.batches.append(logs["outputs"].shape[0])


def test_a_list_is_embedded_as_encode_does(model):
    np.testing.assert_array_equal(model.predict(TEXTS, verbose=0), encode(model, TEXTS))


def test_callbacks_and_steps_see_keras_own_batches(model):
    seen = Seen()
    rows = model.predict(TEXTS, batch_size=10, verbose=0, callbacks=[seen])
    assert seen.batches == [10, 10, 4]
    np.testing.assert_allclose(rows, encode(model, TEXTS), atol=1e-6)
    two = model.predict(TEXTS, batch_size=5, verbose=0, steps=2)
    np.testing.assert_allclose(two, rows[:10], atol=1e-6)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_predict_step_of_the_users_is_what_predicts(tiny_preset, eagerly):
    class Doubled(SimCSE):
        def predict_step(self, data):
            ran.append(tf.executing_eagerly())
            return 2 * super().predict_step(data)

    ran = []
    model = Doubled.from_preset(str(tiny_preset), max_length=32)
    model.run_eagerly = eagerly
    rows = model.predict(SENTENCES, verbose=0)
    np.testing.assert_allclose(rows, 2 * encode(model, SENTENCES), atol=1e-6)
    assert set(ran) == {eagerly}


def test_run_eagerly_runs_keras_loop(tiny_preset, monkeypatch):
    model = SimCSE.from_preset(str(tiny_preset), max_length=32)
    model.compile("adam", run_eagerly=True)
    ran = []

    def watched(*arguments, **options):
        ran.append(tf.executing_eagerly())
        return embed(*arguments, **options)

    embed = model.embedder.embed
    monkeypatch.setattr(model.embedder, "embed", watched)
    model.predict(SENTENCES[:2], verbose=0)
    assert ran == [True]


@pytest.mark.parametrize(
    ("verbose", "shown"), [("auto", "24/24"), (1, "24/24"), (2, "24/24"), (0, "")]
)
def test_keras_progress_bar_counts_sentences(model, capsys, verbose, shown):
    model.predict(TEXTS, verbose=verbose)
    out = capsys.readouterr().out
    assert shown in out
    assert bool(out) == bool(shown)


@pytest.mark.parametrize("batch_size", [0, -1])
@pytest.mark.parametrize("way", ["encode", "predict", "predict of a data set"])
def test_a_batch_of_no_sentence_is_refused(model, way, batch_size):
    texts = tf.data.Dataset.from_tensor_slices(SENTENCES) if "set" in way else SENTENCES
    with pytest.raises(UserError, match=f"1 or more, received {batch_size}"):
        if way == "encode":
            encode(model, texts, batch_size=batch_size)
        else:
            model.predict(texts, batch_size=batch_size, verbose=0)


def halved(model):
    model.set_weights([0.5 * each for each in model.get_weights()])


def moved_in_a_graph(model):
    @tf.function
    def step():
        for each in model.trainable_variables:
            each.value.assign_add(tf.sqrt(tf.abs(each)))

    step()


def trained(model):
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(SENTENCES, batch_size=4, verbose=0)


@pytest.mark.parametrize(
    ("dtype", "change"),
    [
        ("float32", moved_in_a_graph),
        ("mixed_bfloat16", halved),
        ("mixed_bfloat16", moved_in_a_graph),
        ("mixed_bfloat16", trained),
        ("bfloat16", moved_in_a_graph),
    ],
)
def test_new_weights_are_read_at_the_next_call(tiny_preset, dtype, change):
    model = SimCSE.from_preset(str(tiny_preset), max_length=32, dtype=dtype)
    before = model.predict(SENTENCES, verbose=0)
    np.testing.assert_array_equal(model.predict(SENTENCES, verbose=0), before)
    change(model)
    moved = model.predict(SENTENCES, verbose=0)
    assert np.abs(moved - before).max() > 1e-3
    near = 1e-6 if dtype == "float32" else 2e-2
    expected = model.predict_on_batch(SENTENCES)
    np.testing.assert_allclose(moved, expected, atol=near)
    assert (moved * expected).sum(axis=1).min() > (before * expected).sum(axis=1).min()


def test_threads_stay_from_call_to_call(model):
    def threads():
        return {each for each in threading.enumerate() if "simcse-" in each.name}

    encode(model, TEXTS, batch_size=4)
    before = threads()
    assert before
    encode(model, TEXTS, batch_size=4)
    assert threads() == before


def test_a_single_batch_needs_no_other_thread(model, monkeypatch):
    used = []
    token_ids = model.token_ids

    def watched(*arguments):
        used.append(threading.current_thread())
        return token_ids(*arguments)

    monkeypatch.setattr(model, "token_ids", watched)
    monkeypatch.setattr(
        "concurrent.futures.ThreadPoolExecutor.submit",
        lambda *_: pytest.fail("a thread was asked"),
    )
    assert encode(model, SENTENCES[:1]).shape == (1, model.embedding_dim)
    assert used == [threading.main_thread()]


def test_several_callers_share_the_threads(model):
    expected = encode(model, TEXTS)
    found = []
    callers = [
        threading.Thread(target=lambda: found.append(encode(model, TEXTS, 4)))
        for _ in range(4)
    ]
    for each in callers:
        each.start()
    for each in callers:
        each.join(60)
    assert len(found) == 4
    for rows in found:
        np.testing.assert_allclose(rows, expected, atol=1e-6)
