"""Alignment, uniformity and the spectrum, against the paper's formulas written out."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist
from scipy.special import hyp0f1
from scipy.stats import ortho_group

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import geometry, sts

finite = st.floats(-100, 100, width=32)


def matrices():
    shapes = st.tuples(st.integers(2, 12), st.integers(2, 6))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=finite))


def unit(rows):
    rows = np.asarray(rows, np.float64)
    lengths = [math.sqrt(math.fsum(x * x for x in row)) for row in rows]
    return [row / (length or 1) for row, length in zip(rows, lengths, strict=True)]


def squared_distance(x, y):
    return math.fsum((p - q) ** 2 for p, q in zip(x, y, strict=True))


def direct_alignment(a, b):
    distances = [squared_distance(x, y) for x, y in zip(unit(a), unit(b), strict=True)]
    return math.fsum(distances) / len(distances)


def direct_uniformity(embeddings, t=2):
    rows = unit(embeddings)
    potentials = [
        math.exp(-t * squared_distance(rows[i], rows[j]))
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    ]
    return math.log(math.fsum(potentials) / len(potentials))


def gaussian(rows, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dim))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_alignment_equals_the_formula(dtype):
    a, b = gaussian(50, 24).astype(dtype), gaussian(50, 24, seed=1).astype(dtype)
    assert abs(geometry.alignment(a, b) - direct_alignment(a, b)) < 1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_uniformity_equals_the_formula(dtype):
    rows = (gaussian(70, 24) + 0.5).astype(dtype)
    assert abs(geometry.uniformity(rows) - direct_uniformity(rows)) < 1e-12


@given(matrices())
def test_any_vectors_equal_the_formulas(rows):
    assert abs(geometry.uniformity(rows) - direct_uniformity(rows)) < 1e-12
    assert (
        abs(geometry.alignment(rows, rows[::-1]) - direct_alignment(rows, rows[::-1]))
        < 1e-12
    )


def test_known_values():
    east, north, west = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
    assert geometry.alignment([east, east], [north, west]) == pytest.approx(3)
    assert geometry.alignment([east], [west], alpha=1) == pytest.approx(2)
    assert geometry.uniformity([east, west]) == pytest.approx(-8)
    assert geometry.uniformity([east, north], t=5) == pytest.approx(-10)
    assert geometry.average_cosine([east, north, west]) == pytest.approx(-1 / 3)
    np.testing.assert_allclose(
        geometry.singular_values([east, east, west]), [math.sqrt(3), 0], atol=1e-15
    )


def test_vectors_that_are_all_equal_have_collapsed():
    rows = np.full((5, 7), 0.3, np.float32)
    assert geometry.alignment(rows, rows) == 0
    assert geometry.uniformity(rows) == pytest.approx(0, abs=1e-14)
    assert geometry.average_cosine(rows) == pytest.approx(1)


@given(matrices(), st.integers(1, 20))
def test_uniformity_does_not_depend_on_the_block_size(rows, block_size):
    whole = geometry.uniformity(rows, block_size=1000)
    assert abs(geometry.uniformity(rows, block_size=block_size) - whole) < 1e-12


@given(matrices(), st.integers(0, 1000))
def test_rotation_changes_nothing(rows, seed):
    rotated = rows @ ortho_group.rvs(rows.shape[1], random_state=seed)
    for measure in (
        geometry.uniformity,
        geometry.average_cosine,
        geometry.singular_values,
        lambda x: geometry.alignment(x, np.roll(x, 1, axis=0)),
    ):
        np.testing.assert_allclose(measure(rotated), measure(rows), atol=1e-7)


@given(matrices(), st.sampled_from([1e-160, 1e-30, 7.0, 1e30, 1e160]))
def test_length_changes_nothing(rows, scale):
    scaled = rows * (scale * np.arange(1, len(rows) + 1)[:, None])
    for measure in (
        geometry.uniformity,
        geometry.average_cosine,
        geometry.singular_values,
        lambda x: geometry.alignment(x, np.roll(x, 1, axis=0)),
    ):
        np.testing.assert_allclose(measure(scaled), measure(rows), atol=1e-12)


@given(matrices())
def test_average_cosine_is_the_mean_over_distinct_pairs(rows):
    first, second = np.triu_indices(len(rows), k=1)
    expected = sts.cosine_similarity(rows[first], rows[second]).mean()
    assert abs(geometry.average_cosine(rows) - expected) < 1e-12


@given(matrices())
def test_singular_values_are_roots_of_the_gram_matrix_descending(rows):
    values = geometry.singular_values(rows)
    rows = np.stack(unit(rows))
    gram = rows.T @ rows if rows.shape[1] <= len(rows) else rows @ rows.T
    np.testing.assert_allclose(values**2, np.linalg.eigvalsh(gram)[::-1], atol=1e-12)
    assert (np.diff(values) <= 0).all()


def test_a_steep_potential_does_not_underflow():
    east, north, west = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
    # Two pairs at squared distance 2 and one at 4: the nearest decide.
    expected = -20_000 + math.log(2 / 3)
    for block_size in (1, 2, 3):
        found = geometry.uniformity([east, north, west], 1e4, block_size)
        assert found == pytest.approx(expected)


def test_a_zero_vector_is_at_distance_one_from_every_other():
    rows = [[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]]
    expected = math.log((2 * math.exp(-2) + 1) / 3)
    assert geometry.uniformity(rows) == pytest.approx(expected)
    assert geometry.alignment(rows[:1], rows[1:2]) == pytest.approx(1)
    assert geometry.average_cosine(rows) == 0


def test_a_vector_that_is_not_finite_makes_the_result_nan():
    for bad in (np.nan, np.inf):
        rows = gaussian(4, 3)
        rows[2, 1] = bad
        with np.errstate(invalid="ignore"):
            assert math.isnan(geometry.uniformity(rows))
            assert math.isnan(geometry.uniformity(rows, block_size=1))
            assert math.isnan(geometry.alignment(rows, rows))
            assert math.isnan(geometry.average_cosine(rows))
            assert np.isnan(geometry.singular_values(rows)).all()


@pytest.mark.slow
def test_uniformity_of_many_vectors_needs_memory_for_one_block_only():
    rows = gaussian(10_000, 64).astype(np.float32)
    tracemalloc.start()
    try:
        value = geometry.uniformity(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    vectors, block = 10_000 * 64 * 8, 1024 * 1024 * 8
    assert peak < 4 * vectors + 5 * block < 10_000 * 10_000 * 8 / 10
    # The integral for the uniform distribution on the sphere in 64 dimensions.
    assert value == pytest.approx(math.log(hyp0f1(64 / 2, 4)) - 4, abs=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: geometry.alignment(np.ones((2, 3)), np.ones((2, 4))),
        lambda: geometry.alignment(np.ones((2, 3)), np.ones((1, 3))),
        lambda: geometry.alignment(np.ones((0, 3)), np.ones((0, 3))),
        lambda: geometry.alignment(np.ones(3), np.ones(3)),
        lambda: geometry.uniformity(np.ones((1, 3))),
        lambda: geometry.uniformity(np.ones((2, 0))),
        lambda: geometry.uniformity(np.ones((2, 3, 4))),
        lambda: geometry.average_cosine(np.ones((1, 3))),
        lambda: geometry.singular_values(np.ones((1, 3))),
    ],
)
def test_a_wrong_shape_is_told_with_what_was_expected(call):
    with pytest.raises(ValueError, match=r"must have .*Received: .*shape=\("):
        call()


def test_a_block_size_below_one_is_refused():
    with pytest.raises(ValueError, match="block_size=0"):
        geometry.uniformity(np.ones((2, 3)), block_size=0)


def bytes_encoder(sentences):
    """Byte counts, shifted away from zero and never the same for two orders."""
    rows = np.zeros((len(sentences), 257), np.float32)
    for row, sentence in zip(rows, sentences, strict=True):
        for place, byte in enumerate(sentence.encode(), start=1):
            row[byte] += 1
            row[256] += byte % 7 * place / 100
    return rows


def test_stsb_geometry_is_that_of_the_formulas_and_encodes_once():
    pairs = sts.Pairs(
        ["a man", "a dog", "a man", "rain"],
        ["the man", "a cat", "rain", "raining"],
        np.array([4.2, 4.0, 0.0, 5.0]),
    )
    calls = []

    def encode(sentences):
        calls.append(sentences)
        return bytes_encoder(sentences)

    result = geometry.stsb_geometry(encode, pairs)
    distinct = ["a man", "a dog", "rain", "the man", "a cat", "raining"]
    assert calls == [distinct]
    assert set(result) == {"alignment", "uniformity"}
    alignment = direct_alignment(
        bytes_encoder(["a man", "rain"]), bytes_encoder(["the man", "raining"])
    )
    assert abs(result["alignment"] - alignment) < 1e-12
    uniformity = direct_uniformity(bytes_encoder(distinct))
    assert abs(result["uniformity"] - uniformity) < 1e-12


@pytest.mark.slow
def test_stsb_geometry_of_the_real_dev_split(data_dir):
    pairs = sts.load_task(data_dir / "senteval", "STSBenchmark", "dev")
    positive = [i for i, score in enumerate(pairs.scores) if score > 4]
    assert len(positive) == 208
    calls = []

    def encode(sentences):
        calls.append(sentences)
        return bytes_encoder(sentences)

    result = geometry.stsb_geometry(encode, pairs)
    (sentences,) = calls
    assert len(sentences) == len(set(sentences)) == 2909
    assert set(sentences) == {*pairs.sentences_a, *pairs.sentences_b}

    a = bytes_encoder([pairs.sentences_a[i] for i in positive])
    b = bytes_encoder([pairs.sentences_b[i] for i in positive])
    assert abs(result["alignment"] - direct_alignment(a, b)) < 1e-12
    rows = np.stack(unit(bytes_encoder(sentences)))
    mean = np.exp(-2 * pdist(rows, "sqeuclidean")).mean()
    assert abs(result["uniformity"] - math.log(mean)) < 1e-12


def test_stsb_geometry_without_positives_is_told_before_encoding():
    pairs = sts.Pairs(["a", "b"], ["c", "d"], np.array([4.0, 1.0]))
    with pytest.raises(UserError, match="scored above 4, received 2 pairs"):
        geometry.stsb_geometry(lambda sentences: pytest.fail("encoded"), pairs)


def test_stsb_geometry_of_one_sentence_is_told_before_encoding():
    pairs = sts.Pairs(["a"], ["a"], np.array([5.0]))
    with pytest.raises(UserError, match="two different sentences"):
        geometry.stsb_geometry(lambda sentences: pytest.fail("encoded"), pairs)


def test_stsb_geometry_tells_what_encode_must_return():
    pairs = sts.Pairs(["a"], ["b"], np.array([5.0]))
    with pytest.raises(ValueError, match=r"\(2, dim\) for 2 sentences.*\(3, 4\)"):
        geometry.stsb_geometry(lambda sentences: np.ones((3, 4)), pairs)
