"""Retrieval metrics: equal to trec_eval's, ties included."""

import json

import numpy as np
import pytest
from support.rankings import REFERENCE, RUNS, random_set

from simcse_tf.evaluation import own_sets, ranking
from simcse_tf.evaluation.own_sets import RetrievalSet


@pytest.mark.parametrize("seed", range(RUNS))
def test_metrics_equal_those_of_pytrec_eval_on_random_runs_with_ties(seed):
    vectors, queries, documents, relevant = random_set(seed)
    own = RetrievalSet(queries, documents, relevant)
    encode = lambda texts: np.array([vectors[text] for text in texts])  # noqa: E731
    found = own_sets.measure_sets(encode, {"set": own})
    expected = json.loads(REFERENCE.read_text())[seed]
    assert list(found) == [f"set:{metric}" for metric in expected]
    for metric, values in expected.items():
        np.testing.assert_allclose(found[f"set:{metric}"], values, atol=1e-6)


def test_the_reference_has_ties_that_decide():
    """With the order of the corpus turned round, some metrics are others."""
    changed = 0
    for seed, expected in enumerate(json.loads(REFERENCE.read_text())):
        vectors, queries, documents, relevant = random_set(seed)
        turned = dict(reversed(documents.items()))
        own = RetrievalSet(queries, turned, relevant)
        encode = lambda texts: np.array([vectors[t] for t in texts])  # noqa: B023, E731
        found = own_sets.measure_sets(encode, {"set": own})
        changed += not np.allclose(found["set:ndcg@10"], expected["ndcg@10"])
    assert changed > RUNS / 2


def test_a_ranking_by_hand():
    scores = ranking.ranking_scores([[0, 3, 0, 1], [0, 0, 0, 0]], [[3, 1, 2], [1]])
    dcg = 3 / np.log2(3) + 1 / np.log2(5)
    ideal = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    assert scores["ndcg@10"] == pytest.approx([dcg / ideal, 0])
    assert scores["mrr@10"] == pytest.approx([0.5, 0])
    assert scores["recall@10"] == pytest.approx([2 / 3, 0])
