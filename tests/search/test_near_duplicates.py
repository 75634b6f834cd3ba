"""Near duplicates: pairs, cells, and who stands for whom."""

import numpy as np

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.search.near_duplicates import (
    near_pairs,
    nearest_cells,
    representatives,
)


def _near_rows(rows, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(rows // 5, 8))[rng.integers(0, rows // 5, rows)]
    return l2_normalize(centers + rng.normal(scale=0.2, size=centers.shape))


def test_pairs_are_those_of_all_cosines():
    vectors = _near_rows(1500)
    at_home = 1100
    found = near_pairs(vectors, at_home, 0.95)
    near = np.triu(vectors @ vectors.T >= 0.95, 1)
    near[at_home:] = False
    expected = set(zip(*np.nonzero(near), strict=True))
    assert set(map(tuple, found.tolist())) >= expected
    assert len(expected) > 500
    # More than those only by the width of a rounding.
    assert len(found) <= len(expected) * 1.001


def test_representatives_are_those_of_a_loop():
    vectors = _near_rows(1300).astype(np.float64)
    chosen, cosines = representatives(vectors, 0.9)
    unit, kept = l2_normalize(vectors, np.float64), []
    for row, vector in enumerate(unit):
        near = np.round(unit[kept] @ vector, 6) if kept else np.array([-1.0])
        if near.max() >= 0.9:
            assert chosen[row] == kept[int(near.argmax())]
            assert cosines[row] == near.max()
        else:
            kept.append(row)
            assert (chosen[row], cosines[row]) == (row, 1)
    assert 100 < len(kept) < 1200


def test_cells_are_the_nearest_pivots():
    vectors, pivots = _near_rows(200), _near_rows(30, seed=1)
    order = np.argsort(-(vectors @ pivots.T), axis=1)[:, :4]
    np.testing.assert_array_equal(nearest_cells(vectors, pivots, 4), order)
    assert nearest_cells(vectors, pivots[:2], 4).shape == (200, 2)
