import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.forked import run_script
from support.kept_embeddings import keep, unit_rows
from support.models import ROOT, SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.defaults import DISTILLATION_LOSSES
from simcse_tf.objectives.distillation import Distillation
from simcse_tf.objectives.ranking import RankingConsistency

TEXTS = [text.encode() for text in SENTENCES]
ROWS = unit_rows(TEXTS, dim=16)


@pytest.fixture
def teacher(tmp_path):
    return keep(tmp_path / "kept", ROWS)


def reference(loss, views, teacher, t):
    """The loss of a batch, anchor by anchor in float64; a `None` is lacking."""

    def unit(vector):
        return np.float64(vector) / np.linalg.norm(np.float64(vector))

    n, total = len(views[0]), 0.0
    for i in range(n):
        if loss == "embedding":
            costs = [
                2 - 2 * unit(view[i]) @ unit(own[i])
                for view, own in zip(views, teacher, strict=True)
                if own[i] is not None
            ]
            total += np.mean(costs)
            continue
        pairs = [
            (unit(views[0][i]) @ unit(z), unit(teacher[0][i]) @ unit(u))
            for column, (view, known) in enumerate(
                zip(views[1:], teacher[1:], strict=True)
            )
            for j, (z, u) in enumerate(zip(view, known, strict=True))
            if u is not None and (loss == "score" or (column, j) != (0, i))
        ]
        s, u = np.transpose(pairs)
        if loss == "score":
            total += np.mean((s - u) ** 2)
        elif loss == "listnet":
            choice = np.exp(2 * u / t) / np.exp(2 * u / t).sum()
            total -= choice @ np.log(np.exp(s / t) / np.exp(s / t).sum())
        else:
            s = s[np.argsort(-u, kind="stable")] / t
            costs = [np.log(np.exp(s[k:]).sum()) - s[k] for k in range(len(s))]
            total += np.mean(costs)
    return total / n


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
@pytest.mark.parametrize("loss", DISTILLATION_LOSSES)
def test_the_loss_of_a_batch_equals_its_equation_in_float64(teacher, loss, columns):
    """Of rows of which one lacks a hard negative."""
    texts = [list(np.roll(TEXTS, shift)) for shift in range(columns)]
    if columns > 2:
        texts[2][1] = b""
    views = np.random.default_rng(1).normal(size=(max(2, columns), 8, 16))
    objective = Distillation(teacher, loss, weight=3.0, temperature=0.3)
    targets = objective.targets([tf.constant(column) for column in texts], None)
    found = objective.embedding_loss(tf.constant(views, tf.float32), targets)
    known = [[ROWS.get(text) for text in column] for column in texts]
    expected = reference(loss, views, known * (2 if columns == 1 else 1), 0.3)
    np.testing.assert_allclose(found, 3 * expected, rtol=1e-5)


def test_a_positive_that_is_made_has_its_anchors_embedding(teacher):
    made = tf.constant([b"made of " + text for text in TEXTS])
    views = tf.random.stateless_normal([2, 8, 16], [1, 2])
    objective = Distillation(teacher, "score", anchors_only=True)
    of_pairs = objective.targets([tf.constant(TEXTS), made], None)
    of_sentences = Distillation(teacher).targets([tf.constant(TEXTS)], None)
    np.testing.assert_array_equal(of_pairs["teacher"], of_sentences["teacher"])
    assert np.isfinite(objective.embedding_loss(views, of_pairs))


def test_regression_on_embeddings_needs_as_many_dimensions(
    teacher, tmp_path, tiny_preset
):
    model = SimCSE.from_preset(str(tiny_preset))
    model.compile("adam", objective=Contrastive() + Distillation(teacher, "embedding"))
    narrow = keep(tmp_path / "narrow", unit_rows(TEXTS, dim=5))
    for loss in ("listnet", "listmle", "score"):
        model.compile("adam", objective=Distillation(narrow, loss))
    with pytest.raises(
        UserError, match="as many dimensions as the model, 16, received 5"
    ):
        model.compile(
            "adam", objective=Contrastive() + Distillation(narrow, "embedding")
        )
    with pytest.raises(
        UserError, match="listnet, listmle, embedding, score; received kl"
    ):
        Distillation(narrow, "kl")


def test_kerases_own_file_keeps_teacher_and_settings(teacher, tmp_path, tiny_preset):
    model = SimCSE.from_preset(str(tiny_preset), dropout=0.0)
    distillation = Distillation(teacher, "listmle", 0.5, 0.1)
    model.compile("sgd", objective=RankingConsistency(2.0, 0.2) + distillation)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objective.get_config() == model.objective.get_config()
    targets = loaded.objective.targets([tf.constant(TEXTS)], None)
    np.testing.assert_array_equal(targets["teacher"][3, 0], ROWS[TEXTS[3]])


# In a process of its own, since the CPU can be split only before TensorFlow starts.
SCRIPT = """
import json, sys
import numpy as np, tensorflow as tf
from simcse_tf.distributed.strategy import split_cpu, strategy_of
from simcse_tf.objectives.distillation import Distillation
from simcse_tf.objectives.ranking import RankingConsistency
from simcse_tf.objectives.text_embeddings import TextEmbeddings

kept, out, losses, replicas, *texts = sys.argv[1:]
split_cpu(int(replicas))
strategies = {1: strategy_of("none"), int(replicas): strategy_of("mirrored")}
teacher = TextEmbeddings(kept, 16)
columns = [list(np.roll(texts, shift)) for shift in range(3)]
columns[2][5] = ""
views = np.random.default_rng(0).normal(size=(3, len(texts), 16)).astype("float32")

objectives = [Distillation(teacher, loss) for loss in json.loads(losses)]
targets = objectives[0].targets([tf.constant(column) for column in columns], None)
objectives.append(RankingConsistency())

def values(replicas):
    strategy, rows = strategies[replicas], len(texts) // replicas

    @tf.function
    def step():
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * rows
        own = tf.gather(views, first + tf.range(rows), axis=1)
        part = {n: tf.gather(t, first + tf.range(rows)) for n, t in targets.items()}
        results = []
        for objective in objectives:
            with tf.GradientTape() as tape:
                tape.watch(own)
                loss = objective.embedding_loss(own, part)
                share = loss / replicas
            results.append((loss, tape.gradient(share, own)))
        return results

    for result in strategy.run(step):
        loss, gradient = map(strategy.experimental_local_results, result)
        yield float(np.mean(loss)), np.concatenate(gradient, axis=1).tolist()

found = zip(*map(values, (1, int(replicas))), strict=True)
json.dump(list(found), open(out, "w"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.attack)])
def test_replicas_compute_the_loss_and_gradient_of_one_device(
    teacher, tmp_path, replicas
):
    out = tmp_path / "out.json"
    losses = json.dumps(DISTILLATION_LOSSES)
    arguments = [teacher.directory, out, losses, replicas, *SENTENCES]
    run_script(SCRIPT, *arguments, cwd=ROOT)
    results = json.loads(out.read_text())
    assert len(results) == len(DISTILLATION_LOSSES) + 1
    for (loss, gradient), (other_loss, other) in results:
        largest = np.abs(gradient).max()
        assert largest > 1e-4
        assert other_loss == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(other, gradient, atol=1e-5 * largest)
