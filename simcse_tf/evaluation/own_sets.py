"""A user's own dev and test data: what they are, and how a model is scored on them.

Scored pairs have Spearman's correlation of cosines and scores, triplets the share in
which the positive is nearer than the negative, retrieval sets the metrics of `ranking`.
All are times 100. No model is known here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from simcse_tf.evaluation import bootstrap, ranking, significance, sts
from simcse_tf.evaluation.bootstrap import Draws
from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.correlation import or_zero
from simcse_tf.evaluation.significance import Comparison, Estimate
from simcse_tf.evaluation.sts_files import Pairs
from simcse_tf.search.exact import top_k

AVERAGE = "own_avg"
# As in `search.exact`: what float32 embeddings can tell apart.
_DECIMALS = 6


@dataclass(frozen=True)
class Triplets:
    """Texts, each with one that is near to it in meaning and one that is less so.

    Attributes:
        anchors: n strings.
        positives: n strings.
        negatives: n strings.

    Example:

    ```python
    Triplets(["A man plays."], ["Someone plays."], ["A dog runs."])
    ```
    """

    anchors: list[str]
    positives: list[str]
    negatives: list[str]

    def __len__(self) -> int:
        return len(self.anchors)


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, a corpus, and which of its documents are relevant to each query.

    Attributes:
        queries: Texts by their ids, each with a relevant document at least.
        documents: Texts by their ids.
        relevant: For each query the relevance, above 0, of its relevant documents.

    Example:

    ```python
    RetrievalSet({"q": "Who plays?"}, {"d": "A man plays."}, {"q": {"d": 1}})
    ```
    """

    queries: Mapping[str, str]
    documents: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]

    def __len__(self) -> int:
        return len(self.queries)


OwnSet: TypeAlias = Pairs | Triplets | RetrievalSet
Sets: TypeAlias = Mapping[str, OwnSet]
# What each example of a set gave, by the name of a score: a pair's cosine, whether a
# triplet is right, a query's metric.
Samples: TypeAlias = Mapping[str, np.ndarray]


def score_names(name: str, own: OwnSet) -> list[str]:
    """What the scores of a set are called, the one that counts in a mean first.

    Example:

    ```python
    score_names("beir", retrieval_set)  # ["beir:ndcg@10", "beir:mrr@10", ...]
    ```
    """
    if isinstance(own, RetrievalSet):
        return [f"{name}:{metric}" for metric in ranking.CUTOFFS]
    return [name]


def texts_of(own: OwnSet) -> list[str]:
    """Every text of a set.

    Example:

    ```python
    encode(texts_of(pairs))
    ```
    """
    if isinstance(own, Pairs):
        return [*own.sentences_a, *own.sentences_b]
    if isinstance(own, Triplets):
        return [*own.anchors, *own.positives, *own.negatives]
    return [*own.documents.values(), *own.queries.values()]


def size_of(own: OwnSet) -> str:
    """How much a set holds, in words.

    Example:

    ```python
    size_of(retrieval_set)  # "50 queries, 1,000 documents"
    ```
    """
    if isinstance(own, RetrievalSet):
        return f"{len(own):,} queries, {len(own.documents):,} documents"
    return f"{len(own):,} {'pairs' if isinstance(own, Pairs) else 'triplets'}"


def measure_sets(encode: Encoder, sets: Sets) -> dict[str, np.ndarray]:
    """What each example of the sets gives; see `Samples`.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors.
        sets: The sets by name.

    Returns:
        float64 `(n,)` by the score's name. NaN where a model finds all documents
        equally near to every query, so that nothing is ranked.

    Example:

    ```python
    measure_sets(encode, {"mine": triplets})["mine"].mean()
    ```
    """
    once = encode if isinstance(encode, CachingEncoder) else CachingEncoder(encode)
    found: dict[str, np.ndarray] = {}
    for name, own in sets.items():
        if isinstance(own, RetrievalSet):
            for metric, values in _ranked(once, own).items():
                found[f"{name}:{metric}"] = values
            continue
        # In one call, which an encoder can sort by length.
        once(texts_of(own))
        if isinstance(own, Pairs):
            found[name] = sts.cosine_similarity(
                once(own.sentences_a), once(own.sentences_b)
            )
        else:
            found[name] = _is_right(once, own)
    return found


def set_scores(
    samples: Samples,
    sets: Sets,
    metric: str = "spearman",
    undefined: float | None = None,
) -> dict[str, float]:
    """The scores of sets, times 100, and their mean as `"own_avg"`.

    Args:
        samples: As `measure_sets` returns them.
        sets: The sets by name.
        metric: `"spearman"` or `"pearson"`, for pairs. Defaults to `"spearman"`.
        undefined: Optional float. The score where it is undefined. Defaults to `None`:
            0.0, with a `RuntimeWarning`; see `sts.spearman`.

    Example:

    ```python
    set_scores(measure_sets(encode, sets), sets)["own_avg"]
    ```
    """
    scores: dict[str, float] = {}
    for name, values in samples.items():
        own = sets[_set_of(name)]
        if isinstance(own, Pairs):
            scores[name] = sts.score(values, own, metric, undefined=undefined)
        else:
            mean = float(np.mean(values))
            scores[name] = 100.0 * mean if mean == mean else or_zero(undefined)
    main = [scores[score_names(name, own)[0]] for name, own in sets.items()]
    return {**scores, AVERAGE: sum(main) / len(main)}


def set_estimates(
    samples: Samples, sets: Sets, metric: str = "spearman"
) -> dict[str, Estimate]:
    """`set_scores` with 95% intervals: the examples of a set are drawn again.

    Example:

    ```python
    set_estimates(measure_sets(encode, sets), sets)["mine"].low
    ```
    """
    if not sets:
        return {}
    # For the warning where a score is undefined.
    scores = set_scores(samples, sets, metric)
    return {
        name: significance.estimate(draws)._replace(value=scores[name])
        for name, draws in _draws([samples], sets, metric)
    }


def set_comparisons(
    one: Samples, other: Samples, sets: Sets, metric: str = "spearman"
) -> dict[str, Comparison]:
    """How far the first model is above the second, on the same draws.

    Example:

    ```python
    one, other = (measure_sets(encode, sets) for encode in encoders)
    set_comparisons(one, other, sets)["mine"].p_value
    ```
    """
    if not sets:
        return {}
    return {
        name: significance.comparison(draws)
        for name, draws in _draws([one, other], sets, metric)
    }


def set_details(name: str, own: OwnSet, samples: Samples) -> dict[str, Any]:
    """A set's size and scores, for JSON.

    Example:

    ```python
    set_details("mine", pairs, samples)["spearman"]["all"]
    ```
    """
    if isinstance(own, Pairs):
        return sts.all_scores(samples[name], own)
    scores = set_scores({n: samples[n] for n in score_names(name, own)}, {name: own})
    del scores[AVERAGE]
    if isinstance(own, Triplets):
        return {"triplets": len(own), "accuracy": scores[name]}
    metrics = {score.partition(":")[2]: value for score, value in scores.items()}
    return {"queries": len(own), "documents": len(own.documents), **metrics}


def _set_of(score: str) -> str:
    return score.partition(":")[0]


def _draws(
    models: list[Samples], sets: Sets, metric: str
) -> Iterator[tuple[str, Draws]]:
    means = []
    for seed, (name, own) in enumerate(sets.items()):
        for score in score_names(name, own):
            values = [samples[score] for samples in models]
            if isinstance(own, Pairs):
                draws = bootstrap.correlation_draws(
                    values, own.scores, metric, seed=seed
                )
            else:
                draws = bootstrap.mean_draws(values, seed=seed)
            yield score, draws
            if score == score_names(name, own)[0]:
                means.append(draws)
    yield AVERAGE, np.mean(means, axis=0)


def _is_right(encode: CachingEncoder, own: Triplets) -> np.ndarray:
    anchors = encode(own.anchors)
    near, far = (
        np.round(sts.cosine_similarity(anchors, encode(texts)), _DECIMALS)
        for texts in (own.positives, own.negatives)
    )
    # A tie is wrong: a model that has collapsed gets none right.
    return (near > far).astype(np.float64)


def _ranked(encode: CachingEncoder, own: RetrievalSet) -> dict[str, np.ndarray]:
    names = list(own.documents)
    # One more, since the query may be among them.
    queries, documents = encode.of_role("query"), encode.of_role("document")
    if queries is documents:
        # In one call, which an encoder can sort by length.
        encode(texts_of(own))
    places, cosines = top_k(
        queries(list(own.queries.values())),
        documents(list(own.documents.values())),
        ranking.DEPTH + 1,
    )
    gains = np.zeros((len(own), ranking.DEPTH))
    for row, query in enumerate(own.queries):
        relevant = own.relevant[query]
        found = [
            relevant.get(names[place], 0)
            for place in places[row]
            # In some of BEIR's sets the queries are documents too, and no answer.
            if names[place] != query or query in relevant
        ][: ranking.DEPTH]
        gains[row, : len(found)] = found
    every = [list(own.relevant[query].values()) for query in own.queries]
    scores = ranking.ranking_scores(gains, every)
    if len(names) > 1 and np.ptp(cosines) == 0:
        return {metric: np.full(len(own), np.nan) for metric in scores}
    return scores
