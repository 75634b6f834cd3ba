"""How embeddings lie on the unit sphere: near their positives, and spread out.

Every function normalizes its vectors and computes in float64. A vector of length
zero has no direction and stays zero: it is at distance 1 from every unit vector. A
vector that is not finite makes the result NaN. No model is known here.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.evaluation.caching import CachingEncoder, Encoder
from simcse_tf.evaluation.sts import Pairs, cosine_similarity

# The paper's positives in STS-B: pairs scored above this.
POSITIVE = 4.0


class Geometry(NamedTuple):
    """How the embeddings of STS-B lie.

    Attributes:
        alignment: float. NaN where no pair is positive.
        uniformity: float.
        average_cosine: float.
        cosines: float64 `(n,)`, of each of n pairs.
        singular_values: float64, largest first.

    Example:

    ```python
    measure_geometry(encode, load_task("senteval", "STSBenchmark", "dev")).alignment
    ```
    """

    alignment: float
    uniformity: float
    average_cosine: float
    cosines: np.ndarray
    singular_values: np.ndarray


def alignment(a: ArrayLike, b: ArrayLike, alpha: float = 2) -> float:
    """Mean distance of positives, `E ||f(x) - f(x+)||^alpha`; lower is closer.

    Args:
        a: `(n, dim)`, any real dtype and any length of the vectors. Embeddings.
        b: `(n, dim)`. The embedding of each row's positive.
        alpha: float. Power of the distance. Defaults to `2`.

    Returns:
        A number from 0 to `2**alpha`.

    Raises:
        ValueError: The shapes are not two-dimensional and equal, or have no row.

    Example:

    ```python
    alignment([[1.0, 0.0]], [[0.0, 1.0]])  # 2.0
    ```

    Reference:
        - [Wang and Isola 2020](https://arxiv.org/abs/2005.10242), section 4.1.1
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), equation 2
    """
    a, b = _unit(a, "a", at_least=1), _unit(b, "b", at_least=1)
    if a.shape != b.shape:
        raise ValueError(
            "`a` and `b` must have the same shape. "
            f"Received: a.shape={a.shape}, b.shape={b.shape}"
        )
    return float(np.mean(np.linalg.norm(a - b, axis=1) ** alpha))


def uniformity(embeddings: ArrayLike, t: float = 2, block_size: int = 1024) -> float:
    """Logarithm of the mean Gaussian potential, `log E exp(-t ||f(x) - f(y)||^2)`.

    The mean is over all distinct pairs; lower is more uniform. Beside the vectors
    themselves it needs memory for `block_size**2` numbers, whatever their count.

    Args:
        embeddings: `(n, dim)`, any real dtype and any length of the vectors; `n` at
            least 2.
        t: float. Steepness of the potential. Defaults to `2`.
        block_size: int. Rows compared at a time with as many. Defaults to `1024`.

    Returns:
        A number from `-4 * t` to 0.

    Raises:
        ValueError: The shape is another, or `block_size` is below 1.

    Example:

    ```python
    uniformity([[1.0, 0.0], [0.0, 1.0]])  # -4.0
    ```

    Reference:
        - [Wang and Isola 2020](https://arxiv.org/abs/2005.10242), section 4.1.2
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), equation 3
    """
    if block_size < 1:
        raise ValueError(
            f"`block_size` must be 1 or more. Received: block_size={block_size}"
        )
    rows = _unit(embeddings)
    sums = [_log_sum_exp(-t * d) for d in _squared_distances(rows, block_size)]
    pairs = len(rows) * (len(rows) - 1) / 2
    return float(np.logaddexp.reduce(sums) - np.log(pairs))


def average_cosine(embeddings: ArrayLike) -> float:
    """Mean cosine similarity over all distinct pairs: 0 where directions balance.

    A mean far above 0 means that the vectors fill a narrow cone (anisotropy).

    Args:
        embeddings: `(n, dim)`, any real dtype and any length of the vectors; `n` at
            least 2.

    Returns:
        A number from -1 to 1. With a vector of length zero every cosine is 0.

    Raises:
        ValueError: The shape is another.

    Example:

    ```python
    average_cosine([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 0.33
    ```

    Reference:
        - [Ethayarajh 2019](https://arxiv.org/abs/1909.00512), section 3.3
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 5
    """
    rows = _unit(embeddings)
    # ||sum x||^2 = sum ||x||^2 + the cosine of every ordered pair.
    ordered = np.sum(rows.sum(axis=0) ** 2) - np.sum(rows**2)
    return float(ordered / (len(rows) * (len(rows) - 1)))


def singular_values(embeddings: ArrayLike) -> np.ndarray:
    """Singular values of the matrix of unit vectors, not centred; largest first.

    A spectrum that falls off fast means that a few directions hold most of the
    vectors; their squares sum to `n`.

    Args:
        embeddings: `(n, dim)`, any real dtype and any length of the vectors; `n` at
            least 2.

    Returns:
        float64 `(min(n, dim),)`.

    Raises:
        ValueError: The shape is another.

    Example:

    ```python
    singular_values([[2.0, 0.0], [0.0, 3.0]])  # [1.0, 1.0]
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 5
    """
    rows = _unit(embeddings)
    if not np.isfinite(rows).all():
        return np.full(min(rows.shape), np.nan)
    return np.linalg.svd(rows, compute_uv=False)


def stsb_geometry(encode: Encoder, pairs: Pairs) -> dict[str, float]:
    """Alignment and uniformity on STS-B, as in the paper's figures 2 and 3.

    Positives are the pairs scored above 4; uniformity is over every distinct
    sentence.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors.
            Called once, with every distinct sentence.
        pairs: The pairs of a split, from `sts.load_task`.

    Returns:
        `"alignment"` and `"uniformity"`.

    Raises:
        UserError: No pair is scored above 4, there is only one sentence, or an
            embedding is not finite.
        ValueError: `encode` returned another shape.

    Example:

    ```python
    pairs = sts.load_task("senteval", "STSBenchmark", "dev")
    stsb_geometry(encode, pairs)  # {"alignment": 0.21, "uniformity": -2.4}
    ```

    Reference:
        - [Gao et al. 2021](https://arxiv.org/abs/2104.08821), section 3
    """
    positive = pairs.scores > POSITIVE
    if not positive.any():
        raise UserError(
            f"alignment needs pairs scored above {POSITIVE:g}, "
            f"received {len(pairs)} pairs and none of them is"
        )
    sentences = list(dict.fromkeys([*pairs.sentences_a, *pairs.sentences_b]))
    if len(sentences) < 2:
        raise UserError("uniformity needs two different sentences, received one")
    cached = CachingEncoder(encode)
    embeddings = cached(sentences)
    a, b = cached(pairs.sentences_a), cached(pairs.sentences_b)
    return {
        "alignment": alignment(a[positive], b[positive]),
        "uniformity": uniformity(embeddings),
    }


def measure_geometry(encode: Encoder, pairs: Pairs) -> Geometry:
    """All measures of this module on the pairs of STS-B.

    Args:
        encode: Maps n strings to an array `(n, dim)`; any length of the vectors.
        pairs: The pairs of a split, from `sts.load_task`.

    Returns:
        A `Geometry`: uniformity, average cosine and singular values of the distinct
        sentences, alignment of the pairs scored above 4.

    Raises:
        ValueError: `encode` returned another shape.

    Example:

    ```python
    measure_geometry(encode, load_task("senteval", "STSBenchmark", "dev")).uniformity
    ```
    """
    cached = CachingEncoder(encode)
    embeddings = cached(list(dict.fromkeys([*pairs.sentences_a, *pairs.sentences_b])))
    positive = pairs.scores > POSITIVE
    a, b = cached(pairs.sentences_a), cached(pairs.sentences_b)
    return Geometry(
        alignment(a[positive], b[positive]) if positive.any() else np.nan,
        uniformity(embeddings),
        average_cosine(embeddings),
        cosine_similarity(a, b),
        singular_values(embeddings),
    )


def _unit(
    embeddings: ArrayLike, name: str = "embeddings", at_least: int = 2
) -> np.ndarray:
    rows = np.asarray(embeddings, np.float64)
    if rows.ndim != 2 or len(rows) < at_least or not rows.shape[1]:
        raise ValueError(
            f"`{name}` must have shape (n, dim) with n of at least {at_least}. "
            f"Received: {name}.shape={rows.shape}"
        )
    # By the largest entry first, so that no square over- or underflows.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest != 0)
    return l2_normalize(rows, np.float64)


def _squared_distances(rows: np.ndarray, block_size: int) -> Iterator[np.ndarray]:
    """The squared distance of every distinct pair, once, a block at a time."""
    squares = np.sum(rows**2, axis=1)
    for i in range(0, len(rows), block_size):
        for j in range(i, len(rows), block_size):
            one, other = slice(i, i + block_size), slice(j, j + block_size)
            block = rows[one] @ rows[other].T
            block *= -2
            block += squares[one, None]
            block += squares[other]
            # Rounding may leave equal vectors a negative distance.
            np.maximum(block, 0, out=block)
            yield block[np.triu_indices(len(block), k=1)] if i == j else block


def _log_sum_exp(exponents: np.ndarray) -> float:
    """As SciPy's, in place."""
    if not exponents.size:
        return -np.inf
    largest = exponents.max()
    exponents -= largest
    return float(largest + np.log(np.exp(exponents, out=exponents).sum()))
