"""The bootstrap of STS scores and of the difference of two models."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.evaluation import significance, sts

CORRELATIONS = {
    "spearman": lambda x, y: scipy.stats.spearmanr(x, y).statistic,
    "pearson": lambda x, y: scipy.stats.pearsonr(x, y).statistic,
}


def people_and_models(size=200, noises=(0.5, 1.0), seed=0):
    """Scores with many ties, as people give them, and similarities that follow them."""
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, 11, size) / 2
    return gold, *(gold + noise * 5 * draw.normal(size=size) for noise in noises)


def plain_draws(similarity, gold, metric, parts, resamples, seed):
    """The same draws, each made and correlated by SciPy."""
    generator = np.random.default_rng(seed)
    scores = np.zeros(resamples)
    for part, weight in parts:
        x, y = similarity[part], gold[part]
        for draw in range(resamples):
            rows = generator.integers(len(x), size=len(x))
            scores[draw] += weight * CORRELATIONS[metric](x[rows], y[rows])
    return 100 * scores


PARTS = [
    [(slice(0, 200), 1.0)],
    [(slice(0, 50), 0.5), (slice(50, 200), 0.5)],
    [(slice(0, 50), 0.25), (slice(50, 200), 0.75)],
]


@pytest.mark.parametrize("metric", sts.METRICS)
@pytest.mark.parametrize("parts", PARTS)
def test_interval_is_the_percentiles_of_the_draws_scores(metric, parts):
    gold, model, _ = people_and_models()
    # Ties among the similarities too.
    model = model.round()
    expected = np.percentile(
        plain_draws(model, gold, metric, parts, resamples=100, seed=3), [5, 95]
    )
    found = significance.confidence_interval(
        *(model, gold),
        **{"metric": metric, "parts": parts, "confidence": 0.9},
        **{"resamples": 100, "seed": 3},
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("metric", sts.METRICS)
@pytest.mark.parametrize("parts", PARTS)
def test_comparison_takes_the_same_draws_for_both_models(metric, parts):
    gold, a, b = people_and_models(noises=(0.5, 0.6))
    draws = [plain_draws(m, gold, metric, parts, 100, seed=5) for m in (a, b)]
    differences = draws[0] - draws[1]
    observed = sum(
        weight * CORRELATIONS[metric](model[part], gold[part]) * sign
        for part, weight in parts
        for model, sign in ((a, 100), (b, -100))
    )
    found = significance.compare(
        a, b, gold, metric=metric, parts=parts, resamples=100, seed=5
    )
    assert found.difference == pytest.approx(observed, abs=1e-9)
    interval = np.percentile(differences, [2.5, 97.5])
    np.testing.assert_allclose([found.low, found.high], interval, rtol=0, atol=1e-9)
    fewest = min(np.sum(differences < 0), np.sum(differences > 0))
    assert found.p_value == min(1, 2 * (fewest + 1) / 101)


@pytest.mark.parametrize("metric", sts.METRICS)
def test_interval_agrees_with_scipys_bootstrap(metric):
    gold, model, _ = people_and_models(size=300)
    reference = scipy.stats.bootstrap(
        (model, gold),
        CORRELATIONS[metric],
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = significance.confidence_interval(model, gold, metric=metric)
    # Two samples of 1000 draws: their percentiles lie about 0.3 apart.
    np.testing.assert_allclose(found, 100 * np.array(reference), rtol=0, atol=1.0)


@pytest.mark.parametrize("metric", sts.METRICS)
def test_a_model_does_not_differ_from_itself(metric):
    gold, model, _ = people_and_models()
    found = significance.compare(model, model, gold, metric=metric)
    assert found == (0.0, 0.0, 0.0, 1.0)


def test_for_spearman_models_of_the_same_order_do_not_differ():
    gold, model, _ = people_and_models()
    found = significance.compare(model, np.exp(model), gold)
    assert found == (0.0, 0.0, 0.0, 1.0)


def test_a_clearly_better_model_has_the_smallest_p_value_there_is():
    gold, good, bad = people_and_models(noises=(0.05, 2.0))
    found = significance.compare(good, bad, gold, resamples=199)
    assert found.p_value == 2 / 200
    assert 0 < found.low < found.difference < found.high


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(sts.METRICS)))
def test_exchanging_the_models_turns_the_sign_alone(seed, metric):
    gold, a, b = people_and_models(size=40, seed=seed)
    options = {"metric": metric, "resamples": 50, "seed": seed}
    one = significance.compare(a, b, gold, **options)
    other = significance.compare(b, a, gold, **options)
    assert other.difference == -one.difference
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p_value == one.p_value
    assert 2 / 51 <= one.p_value <= 1


def test_the_seed_decides_the_draws():
    gold, model, _ = people_and_models()
    intervals = [
        significance.confidence_interval(model, gold, resamples=50, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", sts.METRICS)
@pytest.mark.parametrize("value", [0.0, 0.1, np.nan, np.inf])
def test_a_collapsed_model_scores_zero_in_every_draw(metric, value):
    gold, model, _ = people_and_models()
    collapsed = np.full_like(model, value)
    interval = significance.confidence_interval(collapsed, gold, metric=metric)
    assert interval == (0.0, 0.0)
    found = significance.compare(model, collapsed, gold, metric=metric)
    assert found[1:3] == significance.confidence_interval(model, gold, metric=metric)


def test_a_draw_of_a_single_pair_scores_zero():
    # Among three pairs one draw in nine holds one pair three times.
    found = significance.confidence_interval([1, 2, 3], [1, 2, 3], resamples=200)
    assert found == (0.0, 100.0)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"expected one of .*pearson.* 'kendall'"):
        significance.confidence_interval([1, 2], [1, 2], metric="kendall")


def two_tasks():
    gold, a, b = people_and_models(size=120, noises=(0.4, 0.6))
    cut = {"one": slice(0, 80), "two": slice(80, 120)}
    loaded = {
        name: sts.Pairs([], [], gold[part], {"x": slice(0, 30), "y": slice(30, size)})
        for (name, part), size in zip(cut.items(), (80, 40), strict=True)
    }
    models = [{name: model[part] for name, part in cut.items()} for model in (a, b)]
    return loaded, models


@pytest.mark.parametrize(
    ("metric", "aggregation"),
    [("spearman", "all"), ("spearman", "wmean"), ("pearson", "mean")],
)
def test_every_task_and_their_average_are_compared(metric, aggregation):
    loaded, (a, b) = two_tasks()
    rule = (metric, aggregation)
    found = significance.comparisons(a, b, loaded, *rule)
    intervals = significance.intervals(a, loaded, *rule)
    assert list(found) == list(intervals) == ["one", "two", "avg"]
    scores = [
        sts.with_average({t: sts.score(m[t], loaded[t], *rule) for t in loaded})
        for m in (a, b)
    ]
    for name in found:
        expected = scores[0][name] - scores[1][name]
        assert found[name].difference == pytest.approx(expected, abs=1e-9)
        low, high = intervals[name]
        assert low < scores[0][name] < high
    widths = {name: high - low for name, (low, high) in intervals.items()}
    # An average is more certain than the task with fewer pairs.
    assert widths["avg"] < widths["two"]
