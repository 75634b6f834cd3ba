import numpy as np
import pytest
from sklearn.decomposition import PCA

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.web.projection import on_a_plane


def vectors(rows, dim=12, seed=3):
    return l2_normalize(np.random.default_rng(seed).normal(size=(rows, dim)))


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_the_plane_is_that_of_the_two_principal_components():
    rows = vectors(9)
    plane = on_a_plane(rows)
    pca = PCA(2).fit(rows.astype(np.float64))
    np.testing.assert_allclose(
        distances(plane.points), distances(pca.transform(rows)), atol=2e-4
    )
    assert plane.kept == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-4)


def test_three_points_keep_their_distances():
    rows = vectors(3)
    plane = on_a_plane(rows)
    np.testing.assert_allclose(distances(plane.points), distances(rows), atol=2e-4)
    assert plane.kept == 1.0


def test_the_same_vectors_lie_the_same_way():
    rows = vectors(6)
    flipped = on_a_plane(rows[:, ::-1])
    np.testing.assert_allclose(on_a_plane(rows).points, flipped.points, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_equal_vectors_are_one_point(rows):
    plane = on_a_plane(np.repeat(vectors(1), rows, axis=0))
    np.testing.assert_allclose(plane.points, 0, atol=1e-4)
    assert plane.kept == 1.0
    assert on_a_plane(vectors(rows, dim=1)).points.shape == (rows, 2)
