"""Retrieval sets with many ties, and what `pytrec_eval` makes of them.

`python tests/support/rankings.py`, with `pytrec_eval-terrier` installed, writes
`rankings.json` again.
"""

import json
from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).with_suffix(".json")
RUNS = 12


def random_set(seed):
    """Vectors by text, queries, documents and relevances.

    Vectors are short and of whole numbers, so that many cosines are equal. The
    documents' ids fall, since `trec_eval` puts the last id first among equals.
    """
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 160))
    documents = {f"d{999 - i}": f"document {i}" for i in range(count)}
    queries = {f"q{i}": f"query {i}" for i in range(6)}
    vectors = {
        text: draw.choice([-2.0, -1.0, 1.0, 3.0], 3)
        for text in (*documents.values(), *queries.values())
    }
    relevant = {}
    for query in queries:
        some = draw.choice(list(documents), int(draw.integers(1, min(count, 30))))
        relevant[query] = {str(d): int(draw.integers(1, 4)) for d in some}
    return vectors, queries, documents, relevant


def reference(seed):
    """The metrics of each query by `pytrec_eval`."""
    import pytrec_eval

    vectors, queries, documents, relevant = random_set(seed)
    run = {
        query: {
            name: round(_cosine(vectors[text], vectors[other]), 6)
            for name, other in documents.items()
        }
        for query, text in queries.items()
    }
    names = {"ndcg_cut.10", "recall.10,100"}
    found = pytrec_eval.RelevanceEvaluator(relevant, names).evaluate(run)
    ten = {
        query: dict(sorted(scores.items(), key=lambda s: (s[1], s[0]))[-10:])
        for query, scores in run.items()
    }
    ranks = pytrec_eval.RelevanceEvaluator(relevant, {"recip_rank"}).evaluate(ten)
    return {
        "ndcg@10": [found[query]["ndcg_cut_10"] for query in queries],
        "mrr@10": [ranks[query]["recip_rank"] for query in queries],
        "recall@10": [found[query]["recall_10"] for query in queries],
        "recall@100": [found[query]["recall_100"] for query in queries],
    }


def _cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


if __name__ == "__main__":
    REFERENCE.write_text(json.dumps([reference(seed) for seed in range(RUNS)]) + "\n")
