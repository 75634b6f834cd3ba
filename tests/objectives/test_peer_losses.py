"""Our losses beside sentence-transformers', on the same embeddings.

`tools/make_peer_losses.py` made its numbers; the embeddings follow from a seed.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from support.models import ROOT

from simcse_tf.objectives.contrastive import Contrastive
from simcse_tf.objectives.matryoshka import Matryoshka
from simcse_tf.objectives.scored_pairs import AnglE, CoSENT

PEERS = json.loads((ROOT / "tests" / "support" / "peer_losses.json").read_text())
DIMS, WEIGHTS = [48, 24, 12, 5], [1.0, 0.5, 2.0, 0.25]

_rng = np.random.default_rng(20)
COMMON = _rng.normal(size=(1, 12, 48))
EMBEDDINGS = (_rng.normal(size=(5, 12, 48)) + COMMON).astype("float32")
DIRECTION = _rng.normal(size=EMBEDDINGS.shape).astype("float32")
GUIDE = _rng.normal(size=(5, 12, 10)).astype("float32")
SCORES = _rng.integers(0, 6, 12).astype("float32")
SCORED = {"cosent": CoSENT, "angle": AnglE}


class Guide:
    """A guide's embeddings of any texts: those of the seed."""

    def of_batch(self, texts):
        return tf.stack(list(GUIDE[: len(texts)]), axis=1)


def ours(kind):
    if kind in SCORED:
        return SCORED[kind]()
    if kind == "matryoshka":
        return Matryoshka(Contrastive(), DIMS, WEIGHTS)
    if kind == "guided":
        return Contrastive(false_negative_margin=0.1, guide=Guide())
    return Contrastive()


@pytest.mark.parametrize("name", PEERS)
def test_losses_and_gradients_are_sentence_transformers(name):
    kind, _, columns = name.rpartition(" ")
    objective, views = ours(kind), tf.constant(EMBEDDINGS[: int(columns)])
    texts = [tf.constant([f"{v} {i}" for i in range(12)]) for v in range(int(columns))]
    scores = tf.constant(SCORES) if kind in SCORED else None
    targets = objective.targets(texts, scores)
    with tf.GradientTape() as tape:
        tape.watch(views)
        loss = objective.embedding_loss(views, targets)
    derivative = np.sum(tape.gradient(loss, views) * DIRECTION[: int(columns)])
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(loss, PEERS[name]["loss"], **close)
    np.testing.assert_allclose(derivative, PEERS[name]["derivative"], **close)
