"""A query and its neighbours on a plane."""

from typing import NamedTuple

import numpy as np

_DECIMALS = 4


class Plane(NamedTuple):
    """Vectors as points of a plane.

    Attributes:
        points: float64 `(n, 2)`, around the origin.
        kept: float, 0 to 1. The part of the variance that the plane shows.

    Example:

    ```python
    Plane(np.zeros((1, 2)), kept=1.0)
    ```
    """

    points: np.ndarray
    kept: float


def on_a_plane(vectors: np.ndarray) -> Plane:
    """The plane on which vectors are spread out the most.

    Their first two principal components. For vectors of unit length that is also
    classical multidimensional scaling of the distances `sqrt(2 - 2 cosine)`.

    Args:
        vectors: float `(n, dim)`, at least one.

    Returns:
        A `Plane`, the same one whenever the vectors are.

    Example:

    ```python
    on_a_plane(np.eye(3)).points  # the corners of a triangle with equal sides
    ```

    Reference:
        - [Gower 1966](https://doi.org/10.1093/biomet/53.3-4.325), on both being one
    """
    centred = np.asarray(vectors, np.float64)
    centred = centred - centred.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(centred), 2))
    shown = min(2, len(lengths))
    points[:, :shown] = left[:, :shown] * lengths[:shown]
    # The sign of a component is arbitrary: the point farthest out decides it.
    farthest = points[np.abs(points).argmax(axis=0), [0, 1]]
    points *= np.where(farthest < 0, -1, 1)
    total = float(np.sum(lengths**2))
    kept = float(np.sum(lengths[:2] ** 2)) / total if total > 1e-12 else 1.0
    return Plane(points.round(_DECIMALS) + 0.0, round(kept, _DECIMALS))
