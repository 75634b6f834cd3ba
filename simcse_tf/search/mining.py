"""Hard negatives: texts near an anchor that are not its positive."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.search.exact import DECIMALS, top_k

SAMPLINGS = ("top", "random")
# Anchors searched for at a time.
_AT_ONCE = 1024


class Rule(NamedTuple):
    """Which of the texts near an anchor are taken as its hard negatives.

    Attributes:
        negatives: How many each anchor gets, at most.
        skip: How many of the nearest are left out: the likeliest to be positives that
            nobody has labelled.
        depth: The rank of the last candidate, counted from 1.
        margin: A negative's cosine is below the positive's by this much.
        relative_margin: The same as a share of the positive's cosine: 0.05 takes what
            is below 95% of it.
        sampling: `"top"`: the nearest candidates; `"random"`: any of them.
        seed: Of the random choice.

    Example:

    ```python
    Rule(negatives=3, skip=5, sampling="random")
    ```

    Reference:
        - [Moreira et al. 2024](https://arxiv.org/abs/2407.15831), section 4: candidates
          chosen by the positive's score
    """

    negatives: int = 1
    skip: int = 0
    depth: int = 100
    margin: float = 0.0
    relative_margin: float = 0.05
    sampling: Literal["top", "random"] = "top"
    seed: int = 42


class Mined(NamedTuple):
    """The hard negatives of one anchor, as rows of the corpus, and their cosines.

    Example:

    ```python
    Mined(rows=[7, 3], cosines=[0.61, 0.58])
    ```
    """

    rows: list[int]
    cosines: list[float]


def hard_negatives(
    anchors: np.ndarray,
    positives: np.ndarray,
    corpus: np.ndarray,
    excluded: Sequence[Collection[int]],
    rule: Rule,
    advance: Callable[[int], object] = lambda anchors: None,
) -> list[Mined]:
    """Finds hard negatives by exact search.

    Args:
        anchors: `(n, dim)`, any length of the vectors.
        positives: `(n, dim)`, each anchor's own.
        corpus: `(m, dim)`, the candidates.
        excluded: For each anchor the rows of the corpus that are no negatives of it:
            its positives and itself.
        rule: A `Rule`.
        advance: Called with the number of anchors that were done. Defaults to nothing.

    Returns:
        `n` of `Mined`, each with `rule.negatives` rows or fewer, the nearest first.

    Raises:
        ValueError: As `simcse_tf.search.exact.top_k`.

    Example:

    ```python
    hard_negatives(anchors, positives, corpus, [{0}, {4}], Rule(negatives=2))
    ```
    """
    mined = []
    scores = pair_cosines(anchors, positives)
    for start in range(0, len(anchors), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        k = rule.depth + max(map(len, excluded[block]))
        found = top_k(anchors[block], corpus, k)
        for number, (rows, cosines) in enumerate(zip(*found, strict=True), start):
            mined.append(
                chosen(rows, cosines, excluded[number], scores[number], rule, number)
            )
        advance(len(anchors[block]))
    return mined


def pair_cosines(anchors: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """The cosine of each anchor with its positive, rounded as `top_k` does.

    Args:
        anchors: `(n, dim)`, any length of the vectors.
        positives: The same.

    Returns:
        float64 `(n,)`.

    Example:

    ```python
    pair_cosines(np.array([[1, 0]]), np.array([[3, 4]]))  # [0.6]
    ```
    """
    anchors, positives = (l2_normalize(x, np.float64) for x in (anchors, positives))
    # As `top_k` tells cosines apart.
    cosines: np.ndarray = np.round(np.sum(anchors * positives, axis=1), DECIMALS)
    return cosines


def chosen(
    rows: np.ndarray,
    cosines: np.ndarray,
    excluded: Collection[int],
    positive: float,
    rule: Rule,
    number: int,
) -> Mined:
    """Chooses among the rows nearest to an anchor.

    Args:
        rows: int64 `(k,)`, the nearest first; with `excluded`, `rule.depth` others.
        cosines: float64 `(k,)`.
        excluded: Rows that are no negatives.
        positive: float. The cosine of anchor and positive.
        rule: A `Rule`.
        number: int. The anchor's place, for a random choice.

    Example:

    ```python
    chosen(np.array([4, 7]), np.array([0.9, 0.6]), {4}, 0.8, Rule(), 0).rows  # [7]
    ```
    """
    allowed = ~np.isin(rows, list(excluded))
    rows, cosines = rows[allowed][: rule.depth], cosines[allowed][: rule.depth]
    rows, cosines = rows[rule.skip :], cosines[rule.skip :]
    highest = min(positive - rule.margin, positive * (1 - rule.relative_margin))
    # The positive itself is no negative, whatever the margins.
    near = np.flatnonzero(cosines < highest)
    if rule.sampling == "random" and len(near) > rule.negatives:
        # A function of the anchor's place: more anchors behind it change nothing.
        random = np.random.default_rng([rule.seed, number])
        near = np.sort(random.choice(near, rule.negatives, replace=False))
    near = near[: rule.negatives]
    return Mined(rows[near].tolist(), cosines[near].tolist())
