"""How good rankings are: nDCG, MRR and recall, as `trec_eval` defines them.

Rankings come from `search.exact.top_k`: of documents whose cosines agree to six
decimals, the one that comes first in the corpus goes first. (`trec_eval` orders ties by
the documents' ids, from the last to the first; without ties both agree.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

# How far down a ranking each metric looks.
CUTOFFS = {"ndcg@10": 10, "mrr@10": 10, "recall@10": 10, "recall@100": 100}
DEPTH = max(CUTOFFS.values())
# What a retrieval set is judged by, where it is one number.
MAIN = "ndcg@10"


def ranking_scores(
    ranked: ArrayLike, relevances: Sequence[Sequence[int]]
) -> dict[str, np.ndarray]:
    """The metrics of each query.

    Args:
        ranked: `(queries, depth)`, the relevance of each document of a ranking, the
            best first; 0 for one that is not relevant. A ranking shorter than `DEPTH`
            holds all there is.
        relevances: For each query those of all its relevant documents, all above 0.

    Returns:
        float64 `(queries,)` between 0 and 1 by the names of `CUTOFFS`.

    Example:

    ```python
    ranking_scores([[0, 1]], [[1]])["mrr@10"]  # [0.5]
    ```

    Reference:
        - Järvelin and Kekäläinen 2002 (nDCG), with the relevance itself as gain.
    """
    gains = np.asarray(ranked, np.float64)
    return {
        "ndcg@10": _ndcg(gains[:, :10], relevances),
        "mrr@10": _reciprocal_rank(gains[:, :10]),
        "recall@10": _recall(gains[:, :10], relevances),
        "recall@100": _recall(gains[:, :100], relevances),
    }


def _ndcg(gains: np.ndarray, relevances: Sequence[Sequence[int]]) -> np.ndarray:
    best = [sorted(every, reverse=True)[:10] for every in relevances]
    ideal = np.array([_discounted(np.array(each, np.float64)) for each in best])
    return np.array([_discounted(each) for each in gains]) / ideal


def _discounted(gains: np.ndarray) -> float:
    return float(np.sum(gains / np.log2(np.arange(2, 2 + len(gains)))))


def _reciprocal_rank(gains: np.ndarray) -> np.ndarray:
    found = gains > 0
    first = np.argmax(found, axis=1)
    return np.where(found.any(axis=1), 1.0 / (1 + first), 0.0)


def _recall(gains: np.ndarray, relevances: Sequence[Sequence[int]]) -> np.ndarray:
    found = np.count_nonzero(gains > 0, axis=1)
    return found / np.array([len(every) for every in relevances])
