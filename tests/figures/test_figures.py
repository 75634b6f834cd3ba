"""The figures: what they plot, that all of it can be read, and how they are written."""

import itertools
import math
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from scipy.stats import gaussian_kde

from simcse_tf import figures
from simcse_tf.figures.themes import THEMES

TASKS = ["STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark"]
TASKS += ["SICKRelatedness", "avg"]
LONG = "runs/unsup-bert-base-uncased-dropout-{}-temperature-0.05-seed-42/" + "x" * 90
MODELS = ["MiniLM", LONG.format(0.1), LONG.format(0.0), "", "_hidden", "a_$x$ <b> & é"]


def random(seed=0):
    return np.random.default_rng(seed)


def run(points=30, seed=0):
    noise = random(seed).normal(size=(2, points))
    steps = np.arange(1, points + 1) * 10
    alignment = 0.2 + 0.1 * np.exp(-steps / 80) + noise[0] / 200
    return figures.Trajectory(steps, alignment, -3 + np.exp(-steps / 90) + noise[1] / 9)


def scored(pairs=120, seed=0):
    gold = random(seed).uniform(0, 5, pairs)
    return np.tanh(gold / 5 + random(seed + 1).normal(0, 0.2, pairs)), gold


def rows(steps=90, seed=0):
    logged = []
    for step in range(1, steps + 1):
        row = {
            "step": step,
            "loss": 2 / step + random(seed + step).uniform(0, 0.3),
            "learning_rate": 3e-5 * (1 - step / steps),
            "examples_per_second": 300 + random(seed - step + steps).uniform(0, 9),
        }
        if step % 25 == 0:
            row["dev_STSBenchmark"] = 80 + step / 60 - (step > 60) + seed / 7
        logged.append(row)
    return logged


def task_scores(seed=0):
    return dict(zip(TASKS, random(seed).uniform(40, 90, 8), strict=True))


def intervals(scores):
    return {t: (s - 1.5, s + 1.25) for t, s in scores.items() if t != "avg"}


def spectrum(size=40, seed=0):
    return np.sort(random(seed).uniform(0.5, 30, size))[::-1]


def several(make, count=6):
    return {name: make(seed=i) for i, name in enumerate(MODELS[:count])}


def intervals_of(models):
    return {name: intervals(scores) for name, scores in models.items()}


nan = math.nan
# Usual and hard inputs of every figure.
CASES = {
    "trajectory, one": lambda: (figures.trajectory, {"run": run()}),
    "trajectory, six": lambda: (figures.trajectory, several(run)),
    "trajectory, long": lambda: (figures.trajectory, {"run": run(2000)}),
    "trajectory, a point": lambda: (
        figures.trajectory,
        {"run": figures.Trajectory([125], [0.2], [-2.0])},
    ),
    "trajectory, identical": lambda: (
        figures.trajectory,
        {"run": figures.Trajectory([1, 1_000_000], [0.2, 0.2], [-2.0, -2.0 + 1e-13])},
    ),
    "trajectory, missing": lambda: (
        figures.trajectory,
        {"run": figures.Trajectory([1, 2], [nan, 0.1], [-2, nan]), "b": ([], [], [])},
    ),
    "density, one": lambda: (figures.cosine_density, {"model": scored()}),
    "density, six": lambda: (figures.cosine_density, several(scored)),
    "density, hard": lambda: (
        figures.cosine_density,
        {
            "constant": (np.full(50, 0.9), np.linspace(0, 5, 50)),
            "two": ([0.1, 0.7], [0.0, 5.0]),
            "missing": ([nan, 0.5], [1.0, nan]),
            "no pair": ([], []),
        },
    ),
    "curves, one": lambda: (figures.training_curves, {"run": rows()}),
    "curves, six": lambda: (figures.training_curves, several(rows)),
    "curves, a row": lambda: (figures.training_curves, {"run": rows(1)}),
    "curves, long": lambda: (
        figures.training_curves,
        {
            "run": [
                {"step": i, "loss": i % 7, "learning_rate": 0.0} for i in range(5000)
            ]
        },
    ),
    "curves, diverged": lambda: (
        figures.training_curves,
        {
            "run": [
                {"step": 999_999, "loss": 1e30, "learning_rate": None},
                {"step": 9_999_999, "loss": math.inf, "dev_STSBenchmark": nan},
            ]
        },
    ),
    "curves, nothing": lambda: (figures.training_curves, {"run": []}),
    "scores, one": lambda: (figures.sts_scores, {"model": task_scores()}),
    "scores, two": lambda: (
        figures.sts_scores,
        (models := several(task_scores, 2)),
        intervals_of(models),
    ),
    "scores, six": lambda: (
        figures.sts_scores,
        (models := several(task_scores)),
        intervals_of(models),
    ),
    "scores, hard": lambda: (
        figures.sts_scores,
        {"a": {"STS12": nan, "a task of a very long name indeed": -3.0}, "b": {}},
    ),
    "singular values, one": lambda: (figures.singular_values, {"model": spectrum()}),
    "singular values, six": lambda: (figures.singular_values, several(spectrum)),
    "singular values, steep": lambda: (
        figures.singular_values,
        {"a": 10.0 ** -np.arange(9), "one": [3.0], "zero": [0, 0], "nan": [nan, nan]},
    ),
    "singular values, none": lambda: (figures.singular_values, {"a": [nan], "b": []}),
    "sweep": lambda: (
        figures.sweep,
        [*MODELS, "objective.kind=next_sentence, objective.next_k=3, model.encoders=2"],
        [[80, 81.5], [79.9], [80, 80], [], [nan, 70], [-5, 60, 61], [81, 82, 83]],
        "STS-B dev, Spearman × 100",
    ),
    "recall, six": lambda: (
        figures.recall_over_rate,
        {
            name: [(0.8 + i / 60 + j / 50, 3000 / (1 + i + 4**j)) for j in range(4)]
            for i, name in enumerate(MODELS)
        },
    ),
    "recall, a point": lambda: (figures.recall_over_rate, {"flat": [(1.0, 24.5)]}),
    "sweep, one": lambda: (figures.sweep, ["a"], [[80.0]], "score " * 30),
}


# One of each figure, as full as it gets.
FULL = [case for case in CASES if case.endswith(("six", "sweep"))]


def make(case, theme="light"):
    figure, *arguments = CASES[case]()
    return figure(*arguments, theme=theme)


def drawn_texts(figure):
    """Every text that is drawn, with its box in pixels."""
    drawn = []
    draw = Text.draw

    def record(text, renderer, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text, text.get_window_extent(renderer)))
        draw(text, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.draw_without_rendering()
    return drawn


def words(figure):
    return [text.get_text() for text, _ in drawn_texts(figure)]


def overlap(a, b):
    """The smaller side of what two boxes share, in pixels."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return min(width, height)


def assert_readable(figure):
    texts = drawn_texts(figure)
    canvas = figure.bbox
    for text, box in texts:
        inside = (
            box.x0 >= canvas.x0 - 0.5
            and box.y0 >= canvas.y0 - 0.5
            and box.x1 <= canvas.x1 + 0.5
            and box.y1 <= canvas.y1 + 0.5
        )
        assert inside, f"cut: {text.get_text()!r} {box} {canvas}"
        assert not text.get_parse_math()
        for axes in figure.axes:
            area = axes.get_window_extent()
            alone = text.get_text() == "no data" and text.axes is axes
            inside = area.contains(*box.min) and area.contains(*box.max)
            assert inside if alone else overlap(box, area) < 1, (
                f"over data, or not where data would be: {text.get_text()!r}"
            )
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        assert overlap(a, b) < 1, f"{one.get_text()!r} over {other.get_text()!r}"
    for axes in figure.axes:
        size = axes.get_window_extent()
        assert min(size.width, size.height) > 0.08 * figure.dpi


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_text_is_cut_or_lies_over_another_or_over_data(case):
    assert_readable(make(case))


characters = st.one_of(
    st.sampled_from("$_<>&\\{}^#%\"' \n\tWMil/-"),
    st.characters(exclude_categories=["Cs"]),
)
any_name = st.text(characters, max_size=80)
any_names = st.lists(any_name, min_size=1, max_size=6, unique=True)


@settings(max_examples=8, deadline=None)
@given(any_names)
@example(["W" * 400, "$\\frac{$", "a$b$c", "$", "\\$x\\$", "\x00"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_name_can_be_read_in_a_legend(names):
    assert_readable(figures.singular_values({name: [2, 1] for name in names}))


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(any_names, any_name)
@example(["W" * 400, "$\\frac{$", "a$b$c", "$", "\\$x\\$", "\x00"], "$\\frac{$")
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_name_can_be_read_beside_a_row(names, label):
    assert_readable(figures.sweep(names, [[1, 2]] * len(names), label))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(any_names)
@example(["W" * 400, "$\\frac{$", "a$b$c", "$", "\\$x\\$", "\x00"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_name_can_be_read_above_a_panel(names):
    assert_readable(figures.cosine_density(dict.fromkeys(names, ([0, 1], [0, 0]))))


coordinate = st.floats(-8, 4) | st.sampled_from([nan, 0.0, -2.0, -2.0 + 1e-15])


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 10**8), coordinate, coordinate),
        min_size=1,
        max_size=5,
    )
)
def test_ticks_of_any_trajectory_can_be_read(points):
    run = figures.Trajectory(*zip(*points, strict=True))
    assert_readable(figures.trajectory({"run": run}))


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_names_are_shown_as_they_are():
    names = ["a_$x$ <b> & é", "_private", "50% #1", "\\alpha ^2 {x}"]
    for figure in (
        figures.singular_values({name: [2, 1] for name in names}),
        figures.sts_scores({name: {"STS12": 1.0} for name in names}),
        figures.sweep(names, [[1]] * 4, "score"),
        figures.cosine_density(dict.fromkeys(names, scored())),
        figures.trajectory(dict.fromkeys(names, run())),
    ):
        assert set(names) <= set(words(figure))


def test_long_names_keep_both_ends_and_stay_distinct():
    names = [f"runs/{'a' * 200}{i}{'b' * 200}/best" for i in range(3)]
    shown = [
        w
        for w in words(figures.sts_scores({name: {"a": 1.0} for name in names}))
        if "…" in w
    ]
    assert len(set(shown)) == 3
    assert all("runs/a" in name and name.endswith("/best") for name in shown)


def test_a_long_setting_takes_more_lines_before_it_is_shortened():
    setting = "objective.kind=next_sentence, objective.next_k=3, model.encoders=2"
    (shown,) = (w for w in words(figures.sweep([setting], [[1]], "s")) if "kind" in w)
    assert shown.replace("\n", " ") == setting


def scatter_of(axes):
    return [c for c in axes.collections if hasattr(c, "get_offsets")]


def line_data(axes):
    return [np.stack(line.get_data(), axis=1) for line in axes.lines]


def test_trajectory_plots_the_points_given_coloured_by_step():
    first, second = run(30), run(12, seed=1)
    gap = list(second.alignment)
    gap[3] = nan
    figure = figures.trajectory(
        {"a": first, "b": figures.Trajectory(second.steps, gap, second.uniformity)}
    )
    axes, bar = figure.axes
    kept = np.delete(np.arange(12), 3)
    for scatter, points, rows in zip(
        axes.collections, (first, second), (np.arange(30), kept), strict=True
    ):
        expected = np.stack([points.uniformity, points.alignment], axis=1)[rows]
        np.testing.assert_array_equal(scatter.get_offsets(), expected)
        colours = THEMES["light"].colormap()((points.steps[rows] - 10) / 290)
        np.testing.assert_allclose(scatter.get_facecolors(), colours, atol=0.01)
    assert bar.get_ylim() == (10, 300)
    assert axes.get_xlabel().startswith("Uniformity")
    assert axes.get_ylabel().startswith("Alignment")
    shapes = {len(c.get_paths()[0].vertices) for c in axes.collections}
    assert len(shapes) == 2


def test_trajectory_marks_the_first_and_the_last_point():
    points = run(9)
    axes = figures.trajectory({"a": points}).axes[0]
    _, first, last = line_data(axes)
    expected = np.stack([points.uniformity, points.alignment], axis=1)
    np.testing.assert_array_equal(first, expected[:1])
    np.testing.assert_array_equal(last, expected[-1:])


def test_density_is_scipys_for_each_level():
    cosines, gold = scored(200)
    gold[:2] = [5.0, 4.0]
    axes = figures.cosine_density({"a": (cosines, gold)}).axes[0]
    curves = line_data(axes)[::2]
    medians = line_data(axes)[1::2]
    highest = 0
    densities = []
    for level, curve in enumerate(curves):
        inside = (gold >= level) & ((gold < level + 1) | (level == 4))
        densities.append(gaussian_kde(cosines[inside])(curve[:, 0]))
        highest = max(highest, densities[-1].max())
        assert medians[level][0, 0] == pytest.approx(np.median(cosines[inside]))
    for level, (curve, density) in enumerate(zip(curves, densities, strict=True)):
        ratio = (curve[:, 1] - level) / density * highest
        np.testing.assert_allclose(ratio[density > 1e-3], ratio[0], rtol=1e-6)
        assert (np.abs(curve[:, 0]) <= 1).all()


def test_training_curves_plot_the_rows():
    logged = [*rows(20), {"step": 21, "loss": None}]
    loss, rate, speed = figures.training_curves({"run": logged}).axes
    for axes, key in (
        (loss, "loss"),
        (rate, "learning_rate"),
        (speed, "examples_per_second"),
    ):
        (plotted,) = line_data(axes)
        np.testing.assert_array_equal(
            plotted, [[row["step"], row[key]] for row in logged[:20]]
        )


def test_a_noisy_curve_has_its_moving_average():
    logged = rows(90)
    raw, smooth = line_data(figures.training_curves({"run": logged}).axes[0])
    losses = [row["loss"] for row in logged]
    np.testing.assert_array_equal(raw[:, 1], losses)
    expected = [statistics.fmean(losses[max(i - 1, 0) : i + 2]) for i in range(90)]
    np.testing.assert_allclose(smooth[:, 1], expected, rtol=1e-12)
    assert "bold: mean over 3 steps" in words(figures.training_curves({"run": logged}))


def test_a_long_curve_keeps_its_extremes():
    losses = random().normal(size=20_000)
    logged = [{"step": i, "loss": loss} for i, loss in enumerate(losses, start=1)]
    raw, smooth = line_data(figures.training_curves({"run": logged}).axes[0])
    assert max(len(raw), len(smooth)) < 1100
    assert raw[:, 1].min() == losses.min()
    assert raw[:, 1].max() == losses.max()
    assert (np.diff(raw[:, 0]) > 0).all()
    np.testing.assert_array_equal(raw[:, 1], losses[raw[:, 0].astype(int) - 1])


def test_the_best_dev_score_is_marked_and_told():
    logged = rows(90)
    figure = figures.training_curves({"run": logged})
    _, dev, *_ = figure.axes
    curve, best = line_data(dev)
    scores = {r["step"]: r["dev_STSBenchmark"] for r in logged if r["step"] % 25 == 0}
    np.testing.assert_array_equal(curve, list(scores.items()))
    step = max(scores, key=scores.get)
    np.testing.assert_array_equal(best, [[step, scores[step]]])
    assert f"run · best {scores[step]:.2f} at {step}" in words(figure)


def test_sts_scores_plots_every_score_with_its_interval_and_number():
    models = {"a": task_scores(), "b": task_scores(1)}
    del models["b"]["STS14"]
    figure = figures.sts_scores(models, {"a": intervals(models["a"])})
    (axes,) = figure.axes
    # On a row each, from the top: a task's models beside each other.
    points = {
        p.get_ydata()[0]: p.get_xdata()[0] for p in axes.lines if p.get_marker() in "os"
    }
    expected = [m.get(t, nan) for t in TASKS for m in models.values()]
    np.testing.assert_array_equal([points[y] for y in sorted(points)], expected)
    drawn = [bar.get_segments()[0][:, 0] for bar in axes.collections]
    np.testing.assert_array_equal(drawn, list(intervals(models["a"]).values()))
    shown = words(figure)
    for task, score in models["a"].items():
        low_high = f"  [{score - 1.5:.2f}, {score + 1.25:.2f}]" if task != "avg" else ""
        assert f"{score:.2f}{low_high}" in shown
    assert {f"{score:.2f}" for score in models["b"].values()} <= set(shown)
    assert shown.count("–") == 1
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [*TASKS[:5], "STS-B", "SICK-R", "Avg."]


def test_the_average_comes_last():
    models = {"a": {"avg": 1.0, "STS12": 1.0}, "b": {"STS13": 2.0}}
    (axes,) = figures.sts_scores(models).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["STS12", "STS13", "Avg."]
    assert axes.yaxis_inverted()


def test_singular_values_are_relative_to_the_largest():
    models = {"a": spectrum(), "b": spectrum(7, seed=1)}
    (axes,) = figures.singular_values(models).axes
    for plotted, values in zip(line_data(axes), models.values(), strict=True):
        expected = [(i, value / values[0]) for i, value in enumerate(values, start=1)]
        np.testing.assert_allclose(plotted, expected, rtol=1e-15)


@pytest.mark.parametrize(("smallest", "scale"), [(0.5, "linear"), (1e-3, "log")])
def test_a_steep_spectrum_has_a_logarithmic_axis(smallest, scale):
    (axes,) = figures.singular_values({"a": [1, smallest]}).axes
    assert axes.get_yscale() == scale
    assert axes.get_ylim()[0] < smallest


def test_sweep_plots_seeds_mean_and_deviation():
    settings = ["dropout 0", "dropout 0.1", "one seed", "missing"]
    scores = [[70.0, 72.0, 71.5], [80.0, 80.5, nan], [75.0], [nan]]
    figure = figures.sweep(settings, scores, "STS-B dev")
    (axes,) = figure.axes
    known = [[s for s in seeds if s == s] for seeds in scores]
    spans = [
        line[:, 0]
        for line in line_data(axes)
        if len(line) == 2 and np.ptp(line[:, 1]) == 0
    ]
    plotted = [list(line[:, 0]) for line in line_data(axes)]
    shown = words(figure)
    for seeds in known[:2]:
        mean, deviation = statistics.fmean(seeds), statistics.stdev(seeds)
        assert seeds in plotted
        assert any(np.allclose(x, [mean]) for x in plotted if len(x) == 1)
        assert any(np.allclose(s, [mean - deviation, mean + deviation]) for s in spans)
        assert f"{mean:.2f} ± {deviation:.2f}" in shown
    assert "75.00" in shown
    assert "–" in shown
    assert [label.get_text() for label in axes.get_yticklabels()] == settings
    assert axes.yaxis_inverted()


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.trajectory({}),
        lambda: figures.cosine_density({}),
        lambda: figures.training_curves({}),
        lambda: figures.sts_scores({}),
        lambda: figures.sts_scores({"a": {}}),
        lambda: figures.singular_values({}),
        lambda: figures.sweep([], [], "score"),
    ],
)
def test_nothing_to_plot_is_refused(call):
    with pytest.raises(ValueError, match=r"must not be empty. Received: [\[{]"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.trajectory({"a": figures.Trajectory([1], [1], [1, 2])}),
        lambda: figures.cosine_density({"a": ([1, 2], [1])}),
        lambda: figures.sweep(["a", "b"], [[1]], "score"),
    ],
)
def test_sequences_of_different_lengths_are_refused(call):
    with pytest.raises(ValueError, match="same length. Received"):
        call()


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match="'light', 'dark'. Received: theme='blue'"):
        figures.trajectory({"a": run()}, theme="blue")


def luminance(colour):
    r, g, b = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(colour)
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    """As WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("case", [*FULL, "trajectory, missing"])
def test_text_stands_out_from_its_background(case, theme):
    figure = make(case, theme)
    assert figure.get_facecolor() == matplotlib.colors.to_rgba(THEMES[theme].background)
    for text, _ in drawn_texts(figure):
        assert contrast(text.get_color(), THEMES[theme].background) >= 4.5


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_data_stand_out_from_their_background(theme):
    for colour in (*theme.series, *theme.colormap()(np.linspace(0, 1, 9))[:, :3]):
        assert contrast(tuple(to_rgb(colour)), theme.background) >= 3


# Machado et al. 2009, severity 1.
COLOUR_BLINDNESS = {
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(colour, vision):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(vision) @ linear, 0, 1)
    to_xyz = [
        [0.4125, 0.3576, 0.1804],
        [0.2127, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9503],
    ]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", COLOUR_BLINDNESS.values(), ids=COLOUR_BLINDNESS)
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_series_differ_whatever_the_colour_vision(theme, vision):
    seen = [lab(colour, vision) for colour in theme.series]
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 12


@pytest.mark.slow
@pytest.mark.parametrize("case", FULL)
def test_the_same_data_give_the_same_svg(case):
    svg = figures.to_svg(make(case))
    assert svg == figures.to_svg(make(case))
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    # Shapes alone: no font is needed, no name is markup, nothing is fetched.
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"text", "script", "metadata"}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.endswith("href") or value.startswith(("#", "data:"))


def test_an_svg_has_no_background_of_its_own():
    figure = make("sweep", "dark")
    assert THEMES["dark"].background not in figures.to_svg(figure)
    assert figure.get_facecolor() == matplotlib.colors.to_rgba("#14171c")


def test_the_users_matplotlib_settings_neither_matter_nor_change():
    usual = figures.to_svg(make("sweep"))
    with matplotlib.rc_context(
        {"font.size": 30, "text.usetex": True, "axes.grid": False}
    ):
        before = dict(matplotlib.rcParams)
        assert figures.to_svg(make("sweep")) == usual
        assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_figures_can_be_made_in_threads():
    jobs = [(case, theme) for case in ("sweep", "sweep, one") for theme in THEMES]
    expected = [figures.to_svg(make(*job)) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda job: figures.to_svg(make(*job)), jobs * 2)
        assert list(made) == expected * 2


@pytest.mark.slow
def test_pyplot_is_not_imported():
    code = (
        "import sys; from simcse_tf import figures;"
        "figures.to_svg(figures.singular_values({'a': [2, 1]}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_save_writes_png_for_print_and_svg(tmp_path):
    figure = make("sweep", "dark")
    base = tmp_path / "new" / "dropout=0.1"
    png, svg = figures.save(figure, base)
    assert [png.name, svg.name] == ["dropout=0.1.png", "dropout=0.1.svg"]
    assert sorted(png.parent.iterdir()) == [png, svg]
    with Image.open(png) as image:
        width, height = figure.get_size_inches()
        assert image.size == (round(width * 300), int(height * 300))
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.convert("RGB").getpixel((0, 0)) == (0x14, 0x17, 0x1C)
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")

    first = png.read_bytes(), svg.read_bytes()
    assert figures.save(make("sweep", "dark"), str(base)) == [png, svg]
    assert (png.read_bytes(), svg.read_bytes()) == first


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    figure = make("sweep, one")
    png, svg = figures.save(figure, tmp_path / "figure")
    before = png.read_bytes(), svg.read_bytes()

    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(type(figure), "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, tmp_path / "figure")
    assert (png.read_bytes(), svg.read_bytes()) == before
    assert sorted(tmp_path.iterdir()) == [png, svg]
