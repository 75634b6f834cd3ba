"""Candidates that are no negatives: repeats, what a row lacks, and what is too near."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forked import run_script
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.false_negatives import text_ids

# Cosines are right to 1e-7 or so, and divided by a temperature of 0.05.
CLOSE = {"rtol": 1e-6, "atol": 1e-5}


def cosine(a, b):
    return a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b))


def reference(views, rows, t=0.05, weight=0.0, repeats=True, margin=None, guide=None):
    """The loss by its words, in float64, a loop a candidate, on texts themselves.

    `rows` are tuples of texts; a single text is its own positive.
    """
    views = np.float64(views)
    guide = views if guide is None else np.float64(guide)
    rows = [row * 2 if len(row) == 1 else row for row in rows]
    losses = []
    for i, (anchor, positive, *_) in enumerate(rows):
        least = None if margin is None else cosine(guide[0][i], guide[1][i]) - margin
        own = cosine(views[0][i], views[1][i]) / t
        terms = [own]
        for column in range(1, len(views)):
            for j, row in enumerate(rows):
                text = row[column]
                if column == 1 and j == i:
                    continue
                if column > 1 and not text:
                    continue
                if repeats and text in (anchor, positive):
                    continue
                near = cosine(guide[0][i], guide[column][j])
                if least is not None and near > least:
                    continue
                extra = weight if column > 1 and j == i else 0.0
                terms.append(cosine(views[0][i], views[column][j]) / t + extra)
        top = max(terms)
        losses.append(np.log(sum(np.exp(x - top) for x in terms)) + top - own)
    return np.mean(losses)


class Guide:
    """Embeddings of a batch's texts by another model."""

    def __init__(self, views):
        self.views = views

    def of_batch(self, texts):
        return tf.stack(list(self.views[: len(texts)]), axis=1)


def columns_of(rows):
    return [tf.constant(column) for column in zip(*rows, strict=True)]


def loss_of(objective, views, rows):
    views = tf.constant(views, tf.float32)
    return objective.embedding_loss(views, objective.targets(columns_of(rows), None))


@st.composite
def batches(draw):
    """Views, and rows of few different texts; hard negatives may be lacking."""
    n, columns = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    text = st.sampled_from(["a", "b", "c", "d", "é", "a "])
    hard = st.one_of(st.just(""), text)
    row = st.tuples(*[text] * min(columns, 2), *[hard] * (columns - 2))
    rows = draw(st.lists(row, min_size=n, max_size=n))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (max(columns, 2), n, draw(st.integers(2, 40)))
    return *rng.normal(size=(2, *shape)).astype("float32"), rows


@given(
    batches(),
    st.booleans(),
    st.sampled_from([None, -0.2, 0.0, 0.05, 0.3]),
    st.booleans(),
    st.floats(-2, 2),
)
@settings(deadline=None, max_examples=80)
def test_the_loss_is_that_of_the_definition(batch, repeats, margin, guided, weight):
    views, others, rows = batch
    # Of single sentences a guide has one embedding each.
    others[1] = others[0] if len(rows[0]) == 1 else others[1]
    objective = Contrastive(
        hard_negative_weight=weight,
        mask_duplicates=repeats,
        false_negative_margin=margin,
        guide=Guide(others) if guided and margin is not None else None,
    )
    expected = reference(
        views, rows, 0.05, weight, repeats, margin, others if guided else views
    )
    np.testing.assert_allclose(loss_of(objective, views, rows), expected, **CLOSE)


ROWS = [
    ("a", "b", "x", ""),
    ("c", "b", "a", "y"),
    ("d", "a", "", "d"),
    ("a", "e", "b", "x"),
    ("f", "f", "c", ""),
]


def test_gradients_equal_central_differences():
    views = np.random.default_rng(3).normal(size=(4, len(ROWS), 5)).astype("float32")
    settings = {"weight": 0.7, "t": 0.2, "margin": 0.1}
    objective = Contrastive(0.2, 0.7, false_negative_margin=0.1)
    moving = tf.constant(views)
    with tf.GradientTape() as tape:
        tape.watch(moving)
        loss = objective.embedding_loss(
            moving, objective.targets(columns_of(ROWS), None)
        )
    gradient = tape.gradient(loss, moving)
    for index in np.ndindex(*views.shape):
        step = np.zeros(views.shape)
        step[index] = 1e-5
        ahead, behind = (
            # What is left out does not move with the embeddings.
            reference(views + moved, ROWS, guide=views, **settings)
            for moved in (step, -step)
        )
        numeric = (ahead - behind) / 2e-5
        np.testing.assert_allclose(gradient[index], numeric, rtol=1e-4, atol=1e-5)


def test_of_equal_lines_the_positive_alone_is_left():
    views = np.random.default_rng(4).normal(size=(2, 64, 8))
    rows = [("the same line",)] * 64
    assert loss_of(Contrastive(), views, rows) == 0
    assert loss_of(Contrastive(mask_duplicates=False), views, rows) > np.log(16)


def test_an_objective_that_was_saved_before_there_was_a_mask_has_none():
    saved = {"temperature": 0.1, "hard_negative_weight": 0.0, "same_mask": False}
    assert Contrastive().mask_duplicates
    assert not Contrastive.from_config(saved).mask_duplicates


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_texts_without_repeats_train_as_if_none_were_left_out(columns):
    views = np.random.default_rng(5).normal(size=(max(columns, 2), 64, 32))
    rows = [tuple(f"{c} {i}" for c in range(columns)) for i in range(64)]
    steps = []
    for objective in (Contrastive(), Contrastive(mask_duplicates=False)):
        moving = tf.constant(views, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(moving)
            loss = loss_of(objective, moving, rows)
        steps.append((loss, tape.gradient(loss, moving)))
    for one, other in zip(*steps, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mask_duplicates", [True, False])
def test_the_embedding_of_what_a_row_lacks_changes_nothing(mask_duplicates):
    views = np.random.default_rng(6).normal(size=(4, len(ROWS), 5)).astype("float32")
    objective = Contrastive(mask_duplicates=mask_duplicates)
    before = loss_of(objective, views, ROWS)
    views[3, 0], views[2, 2], views[3, 4] = views[0, 0], views[1, 2], views[0, 4]
    assert loss_of(objective, views, ROWS) == before
    views[3, 1] = views[0, 1]
    assert loss_of(objective, views, ROWS) > before


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=30))
@settings(deadline=None, max_examples=50)
def test_ids_are_equal_where_texts_are(texts):
    ids = text_ids([tf.constant(texts)] * 3).numpy()
    assert ids.dtype == np.int64
    for one, first in zip(texts, ids[:, 0], strict=True):
        assert (ids[:, 0] == first).tolist() == [other == one for other in texts]
    # An empty anchor is a text, an empty hard negative is none.
    assert (ids[:, :2] != 0).all()
    assert (ids[:, 2] == 0).tolist() == [not text for text in texts]


def test_xla_compiles_the_same_loss():
    views = np.random.default_rng(7).normal(size=(4, len(ROWS), 5)).astype("float32")
    objective = Contrastive(false_negative_margin=0.1)
    targets = objective.targets(columns_of(ROWS), None)
    compiled = tf.function(objective.embedding_loss, jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(views), targets), loss_of(objective, views, ROWS), **CLOSE
    )


# The CPU can be split only before TensorFlow starts.
SCRIPT = """
import json, sys
import numpy as np, tensorflow as tf
from simcse_tf.distributed.strategy import split_cpu
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.matryoshka import Matryoshka

out, rows, replicas = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
split_cpu(replicas)
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
views, guide = np.random.default_rng(8).normal(size=(2, 4, len(rows), 6)).astype("f4")

class Guide:
    def of_batch(self, texts):
        return tf.constant(guide.transpose(1, 0, 2))

def part(context, tensor, axis):
    parts = tf.stack(tf.split(tensor, replicas, axis))
    return parts[context.replica_id_in_sync_group]

objectives = [
    Contrastive(hard_negative_weight=0.5, false_negative_margin=0.1),
    Matryoshka(Contrastive(false_negative_margin=0.1, guide=Guide()), [6, 3], [1, 0.5]),
]
texts = [tf.constant(column) for column in zip(*rows)]
targets = [objective.targets(texts, None) for objective in objectives]

@tf.function(autograph=False)
def step():
    context = tf.distribute.get_replica_context()
    own = part(context, tf.constant(views), 1)
    results = []
    for objective, known in zip(objectives, targets):
        known = {name: part(context, each, 0) for name, each in known.items()}
        with tf.GradientTape() as tape:
            tape.watch(own)
            loss = objective.embedding_loss(own, known)
        results += [loss, tape.gradient(loss, own)]
    return results

results = map(strategy.experimental_local_results, strategy.run(step))
np.savez(out, **{str(i): np.array(values) for i, values in enumerate(results)})
"""


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.attack)])
def test_replicas_leave_out_what_one_device_does(tmp_path, replicas):
    rows = [*ROWS, ("b", "a", "f", "c"), ("a", "b", "", ""), ("g", "h", "i", "b")]
    views, guide = np.random.default_rng(8).normal(size=(2, 4, len(rows), 6))
    losses = [
        reference(views, rows, weight=0.5, margin=0.1),
        reference(views, rows, margin=0.1, guide=guide)
        + reference(views[..., :3], rows, margin=0.1, guide=guide) / 2,
    ]
    gradients = {}
    for count in (1, replicas):
        out = tmp_path / f"{count}.npz"
        run_script(SCRIPT, out, json.dumps(rows), count, cwd=ROOT)
        found = np.load(out)
        for i, loss in enumerate(losses):
            np.testing.assert_allclose(found[str(2 * i)].mean(), loss, **CLOSE)
            # Of the sum of the replicas' losses.
            parts = found[str(2 * i + 1)] / count
            gradient = np.concatenate(list(parts), axis=1)
            expected = gradients.setdefault(i, gradient)
            assert np.abs(expected).max() > 0.01
            np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_step_in_micro_batches_leaves_out_the_repeats_of_the_whole(tiny_preset):
    anchors = [*SENTENCES[:4], SENTENCES[0], SENTENCES[1]]
    lacking = ["", SENTENCES[4], "", SENTENCES[5], SENTENCES[0], SENTENCES[6]]
    columns = [anchors, [*SENTENCES[2:7], SENTENCES[7]], lacking]
    model = SimCSE.from_preset(str(tiny_preset), dropout=0.0, pooling="avg")
    model.compile("sgd", micro_batch_size=2)
    views = [model.predict(column, verbose=0) for column in columns]
    loss = model.train_on_batch(model.prepare(*columns), return_dict=True)["loss"]
    expected = reference(views, list(zip(*columns, strict=True)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert expected < reference(views, list(zip(*columns, strict=True)), repeats=False)
