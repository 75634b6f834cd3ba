"""The STS tasks: what is read, how it is scored, how mistakes are told."""

import itertools
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import sts
from simcse_tf.evaluation.caching import CachingEncoder

pytestmark = pytest.mark.usefixtures("small_tasks")

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("SIMCSE_DATA", ROOT.parent / "shared" / "data"), "senteval")
needs_real_data = pytest.mark.skipif(
    not (REAL / "STS").is_dir(),
    reason=f"real STS data is not at {REAL}; set SIMCSE_DATA to its parent",
)

COUNTS = [
    ("STS12", "test", 3108),
    ("STS13", "test", 1500),
    ("STS14", "test", 3750),
    ("STS15", "test", 3000),
    ("STS16", "test", 1186),
    ("STSBenchmark", "train", 5749),
    ("STSBenchmark", "dev", 1500),
    ("STSBenchmark", "test", 1379),
    ("SICKRelatedness", "train", 4500),
    ("SICKRelatedness", "dev", 500),
    ("SICKRelatedness", "test", 4927),
]
STSB_LINE = "genre\tfile\t2012\t0001\t{score}\t{a}\t{b}"
SICK_HEADER = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"


def hashed_bag_of_words(sentences):
    """An encoder without a model: word counts, hashed into 64 dimensions."""
    vectors = np.zeros((len(sentences), 64), np.float32)
    for row, sentence in enumerate(sentences):
        for word in sentence.split():
            vectors[row, sum(map(ord, word)) % 64] += 1
    return vectors


def mean_ranks(values):
    """Ranks from 1, ties with their mean; by counting, not by sorting."""
    values = np.asarray(values)
    below = np.array([(values < v).sum() for v in values])
    equal = np.array([(values == v).sum() for v in values])
    return below + (equal + 1) / 2


def independent_spearman(x, y):
    return np.corrcoef(mean_ranks(x), mean_ranks(y))[0, 1]


def write(path, *lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
    return path


def write_stsb(root, *pairs, split="test"):
    lines = [STSB_LINE.format(score=s, a=a, b=b) for s, a, b in pairs]
    return write(root / "STS/STSBenchmark" / f"sts-{split}.csv", *lines)


def write_sick(root, *pairs, split="test_annotated"):
    lines = [f"{i}\t{a}\t{b}\t{s}\tNEUTRAL" for i, (s, a, b) in enumerate(pairs)]
    return write(root / "SICK" / f"SICK_{split}.txt", SICK_HEADER, *lines)


def write_sts13(root, **changes):
    """STS13 with two pairs a subset; `changes` replace a file's lines."""
    for subset in ("FNWN", "headlines", "OnWN"):
        for kind, default in (
            ("input", [f"{subset} a\ta", "c\td"]),
            ("gs", ["4", "1"]),
        ):
            lines = changes.get(f"{kind}_{subset}", default)
            write(root / f"STS/STS13-en-test/STS.{kind}.{subset}.txt", *lines)


@needs_real_data
@pytest.mark.parametrize(("task", "split", "count"), COUNTS)
def test_real_data_has_the_published_number_of_pairs(task, split, count):
    pairs = sts.load_task(REAL, task, split)
    assert len(pairs) == len(pairs.sentences_a) == len(pairs.sentences_b) == count
    assert pairs.scores.min() >= 0
    assert pairs.scores.max() <= 5


@needs_real_data
@pytest.mark.parametrize("task", sts.TASKS)
def test_subsets_cover_a_task_without_gaps(task):
    pairs = sts.load_task(REAL, task)
    ends = [0] + [s.stop for s in pairs.subsets.values()]
    assert [s.start for s in pairs.subsets.values()] == ends[:-1]
    assert ends[-1] == len(pairs)


@needs_real_data
def test_real_scores_equal_an_independent_rank_correlation():
    scores = sts.evaluate_sts(hashed_bag_of_words, REAL)
    assert list(scores) == [*sts.TASKS, "avg"]
    for task in sts.TASKS:
        pairs = sts.load_task(REAL, task)
        a = hashed_bag_of_words(pairs.sentences_a).astype(np.float64)
        b = hashed_bag_of_words(pairs.sentences_b).astype(np.float64)
        cosine = sts.cosine_similarity(a, b)
        expected = 100 * independent_spearman(cosine, pairs.scores)
        assert scores[task] == pytest.approx(expected, abs=1e-9)
    assert scores["avg"] == pytest.approx(np.mean([scores[t] for t in sts.TASKS]))


@needs_real_data
def test_real_data_is_available_in_every_task():
    assert sts.available_tasks(REAL) == list(sts.TASKS)
    assert sts.available_tasks(REAL, "dev") == ["STSBenchmark", "SICKRelatedness"]


def test_each_distinct_sentence_is_encoded_once_in_one_call(tmp_path):
    write_sts13(tmp_path)
    write_stsb(tmp_path, (5, "c", "c"), (2, "d", "new one"), (0, "b", "c"))
    write_sick(tmp_path, (4, "new one", "one"), (1, "c", "d"))
    calls = []

    def encode(sentences):
        calls.append(sentences)
        return hashed_bag_of_words(sentences)

    sts.evaluate_sts(encode, tmp_path, sts.available_tasks(tmp_path))
    (sentences,) = calls
    assert type(sentences) is list
    assert max(Counter(sentences).values()) == 1
    assert set(sentences) == {
        *("FNWN a", "headlines a", "OnWN a", "a", "b", "c", "d", "new one", "one")
    }


def test_all_aggregation_correlates_over_the_concatenated_subsets(tmp_path):
    write_sts13(
        tmp_path,
        input_FNWN=["x x y\tx y y", "x\tx y"],
        input_headlines=["p q\tp q", "q r\tr q q"],
        input_OnWN=["u v w\tu", "k\tl m"],
        gs_FNWN=["3.5", "2"],
        gs_headlines=["5", "3.5"],
        gs_OnWN=["1", "0"],
    )
    pairs = sts.load_task(tmp_path, "STS13")
    assert pairs.subsets == {
        "FNWN": slice(0, 2),
        "headlines": slice(2, 4),
        "OnWN": slice(4, 6),
    }
    assert pairs.scores.tolist() == [3.5, 2, 5, 3.5, 1, 0]
    a, b = (hashed_bag_of_words(s) for s in (pairs.sentences_a, pairs.sentences_b))
    expected = independent_spearman(sts.cosine_similarity(a, b), pairs.scores)
    scores = sts.evaluate_sts(hashed_bag_of_words, tmp_path, ["STS13"])
    assert scores["STS13"] == scores["avg"] == pytest.approx(100 * expected)


def test_pairs_without_a_gold_score_are_left_out(tmp_path):
    write_sts13(tmp_path, input_OnWN=["a\tb", "c\td", "e\tf"], gs_OnWN=["", "2.5", ""])
    pairs = sts.load_task(tmp_path, "STS13")
    onwn = pairs.subsets["OnWN"]
    assert pairs.sentences_a[onwn] == ["c"]
    assert pairs.scores[onwn].tolist() == [2.5]


def test_quotes_are_text_and_not_csv_quoting(tmp_path):
    write_stsb(tmp_path, (1, '"it is', 'he said "so'), (4, 'a "" b', "c"))
    pairs = sts.load_task(tmp_path, "STSBenchmark")
    assert pairs.sentences_a == ['"it is', 'a "" b']
    assert pairs.sentences_b == ['he said "so', "c"]


def test_carriage_returns_bom_and_runs_of_spaces_are_not_part_of_a_sentence(tmp_path):
    path = write_sick(tmp_path, (3, " a  b ", "c"), (2, "d", "e"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    pairs = sts.load_task(tmp_path, "SICKRelatedness")
    assert pairs.sentences_a == ["a b", "d"]
    assert pairs.scores.tolist() == [3, 2]


def test_a_line_separator_inside_a_sentence_does_not_end_the_line(tmp_path):
    write_stsb(tmp_path, (1, "a\u2028b", "c\x85d"), (2, "e", "f"))
    assert len(sts.load_task(tmp_path, "STSBenchmark")) == 2


def test_extra_columns_are_ignored(tmp_path):
    write_stsb(tmp_path, (1, "a", "b\tsource\tlicence"), (2, "c", "d"))
    assert sts.load_task(tmp_path, "STSBenchmark").sentences_b == ["b", "d"]


def test_a_missing_directory_is_named_with_what_was_expected(tmp_path):
    with pytest.raises(UserError, match=r"STS12: .*STS12-en-test does not exist"):
        sts.load_task(tmp_path, "STS12")
    assert sts.available_tasks(tmp_path) == []


def test_a_missing_subset_is_an_error_and_not_another_score(tmp_path):
    write_sts13(tmp_path)
    (tmp_path / "STS/STS13-en-test/STS.input.OnWN.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*STS\.input\.OnWN\.txt"):
        sts.load_task(tmp_path, "STS13")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gs_FNWN": ["1"]}, r"input\.FNWN\.txt has 2 lines and .*gs\.FNWN\.txt 1"),
        ({"input_OnWN": ["a\tb", "c"]}, r"input\.OnWN\.txt, line 2: expected 2"),
        ({"gs_headlines": ["high", ""]}, r"gs\.headlines\.txt, line 1: .*'high'"),
        ({"gs_headlines": ["2", "nan"]}, r"gs\.headlines\.txt, line 2: .*'nan'"),
    ],
)
def test_malformed_subset_files_are_named_with_the_line(tmp_path, changes, message):
    write_sts13(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        sts.load_task(tmp_path, "STS13")


def test_malformed_tables_are_named_with_the_line(tmp_path):
    path = write_stsb(tmp_path, (1, "a", "b"), ("x", "c", "d"))
    with pytest.raises(UserError, match=r"sts-test\.csv, line 2: expected a score"):
        sts.load_task(tmp_path, "STSBenchmark")
    path.write_text("one\ttwo\n")
    with pytest.raises(UserError, match=r"line 1: expected 7 tab-separated .* 2$"):
        sts.load_task(tmp_path, "STSBenchmark")


def test_undecodable_bytes_are_named_with_the_line(tmp_path):
    path = write_stsb(tmp_path, (1, "a", "b"), (2, "caf\u00e9", "d"))
    path.write_bytes(path.read_bytes().decode().encode("latin-1"))
    with pytest.raises(UserError, match=r"sts-test\.csv, line 2: not UTF-8"):
        sts.load_task(tmp_path, "STSBenchmark")


def test_sick_without_its_header_does_not_lose_a_pair(tmp_path):
    write(tmp_path / "SICK/SICK_train.txt", "1\ta\tb\t4.5\tNEUTRAL")
    with pytest.raises(UserError, match=r"SICK_train\.txt, line 1: expected a header"):
        sts.load_task(tmp_path, "SICKRelatedness", "train")


def test_unknown_task_and_split(tmp_path):
    with pytest.raises(UserError, match="unknown task 'STS17'"):
        sts.load_task(tmp_path, "STS17")
    with pytest.raises(UserError, match="unknown split 'valid'"):
        sts.load_task(tmp_path, "STSBenchmark", "valid")
    with pytest.raises(UserError, match="STS12 has only a test split"):
        sts.load_task(tmp_path, "STS12", "dev")
    with pytest.raises(UserError, match="no STS task"):
        sts.evaluate_sts(hashed_bag_of_words, tmp_path, [])


@pytest.mark.parametrize(
    ("names", "tasks"),
    [
        (["sts"], list(sts.TASKS)),
        (["STS-B", "sickr"], ["STSBenchmark", "SICKRelatedness"]),
        (["stsb", " sick-R ", "StsBenchmark"], ["STSBenchmark", "SICKRelatedness"]),
        (["STS16", "sts"], ["STS16", *(t for t in sts.TASKS if t != "STS16")]),
    ],
)
def test_task_names_resolve(names, tasks):
    assert sts.resolve_tasks(names) == tasks


def test_sts_means_the_tasks_that_have_the_split():
    assert sts.resolve_tasks(["sts"], "dev") == ["STSBenchmark", "SICKRelatedness"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("STS-C", "STSBenchmark"), ("sts122", "STS12"), ("sick", "SICKRelatedness")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"unknown task '{name}': .*'{nearest}'"):
        sts.resolve_tasks([name])


@pytest.mark.parametrize("shape", [(3,), (2, 4), (5, 4), (4, 2, 2)])
def test_an_encoder_of_another_shape_is_refused(tmp_path, shape):
    write_stsb(tmp_path, (1, "a", "b"), (2, "c", "d"))
    with pytest.raises(ValueError, match=r"must return an array \(4, dim\)"):
        sts.evaluate_sts(lambda _: np.zeros(shape), tmp_path, ["STSBenchmark"])


def constant(value):
    return lambda sentences: np.full((len(sentences), 8), value, np.float16)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_collapsed_model_scores_zero_with_a_warning(tmp_path, value):
    write_stsb(tmp_path, (1, "a", "b"), (2, "c", "d"), (3, "e", "f"))
    with pytest.warns(RuntimeWarning, match="rank nothing"):
        scores = sts.evaluate_sts(constant(value), tmp_path, ["STSBenchmark"])
    assert scores == {"STSBenchmark": 0.0, "avg": 0.0}


def test_a_collapsed_model_can_score_what_the_caller_says(tmp_path):
    write_stsb(tmp_path, (1, "a", "b"), (2, "c", "d"), (3, "e", "f"))
    pairs = sts.load_tasks(tmp_path, ["STSBenchmark"])
    scores = sts.evaluate_pairs(constant(1.0), pairs, undefined=math.nan)
    assert set(scores) == {"STSBenchmark", "avg"}
    assert all(map(math.isnan, scores.values()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(tmp_path, value):
    write_stsb(tmp_path, (1, "a", "b"), (2, "c", "d"), (3, "e", "f"))
    with pytest.raises(UserError, match=f"embeddings, row 1: .* received {value}"):
        sts.evaluate_sts(constant(value), tmp_path, ["STSBenchmark"])


def test_scores_that_are_all_the_same_are_refused(tmp_path):
    write_stsb(tmp_path, (2, "a", "b"), (2, "c", "d"), (2, "e", "f"))
    with pytest.raises(UserError, match="sts-test.csv: all 3 pairs have the score 2,"):
        sts.load_task(tmp_path, "STSBenchmark")


@given(
    hnp.arrays(
        np.int8, st.tuples(st.just(2), st.integers(2, 30)), elements=st.integers(-5, 5)
    )
)
def test_spearman_is_the_correlation_of_mean_ranks(arrays):
    x, y = arrays
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        with pytest.warns(RuntimeWarning):
            assert sts.spearman(x, y) == 0
    else:
        assert sts.spearman(x, y) == pytest.approx(independent_spearman(x, y))
        # Only the order of the similarities counts.
        assert sts.spearman(np.exp(x / 3), y) == pytest.approx(sts.spearman(x, y))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.just(2), st.integers(1, 5), st.integers(1, 8)),
        elements=st.floats(-100, 100, width=32).filter(
            lambda v: v == 0 or abs(v) > 1e-3
        ),
    ),
    st.floats(1e-3, 1e3),
)
def test_cosine_is_bounded_symmetric_and_blind_to_length(arrays, scale):
    a, b = arrays
    cosine = sts.cosine_similarity(a, b)
    assert cosine.dtype == np.float64
    assert np.all(np.abs(cosine) <= 1 + 1e-12)
    np.testing.assert_array_equal(cosine, sts.cosine_similarity(b, a))
    scaled = sts.cosine_similarity(a.astype(np.float64) * scale, b)
    np.testing.assert_allclose(scaled, cosine, atol=1e-12)
    with_itself = sts.cosine_similarity(a, a)
    np.testing.assert_allclose(with_itself, np.any(a != 0, axis=-1), atol=1e-12)


def test_pearson_is_the_linear_correlation():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 50))
    assert sts.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert sts.pearson(3 * x + 1, x) == pytest.approx(1)
    with pytest.warns(RuntimeWarning, match="rank nothing"):
        assert sts.pearson(np.ones(3), [1, 2, 3]) == 0


def subsets_of(*sizes):
    ends = np.cumsum([0, *sizes]).tolist()
    return {str(i): slice(a, b) for i, (a, b) in enumerate(itertools.pairwise(ends))}


@st.composite
def scored_subsets(draw):
    """A task of two to four subsets, none of them constant on either side."""
    sizes = draw(st.lists(st.integers(3, 12), min_size=2, max_size=4))
    column = st.lists(st.integers(-8, 8), min_size=12, max_size=12, unique=True)
    x, y = (
        np.concatenate([draw(column)[:size] for size in sizes]).astype(np.float64)
        for _ in range(2)
    )
    return x, sts.Pairs([], [], y, subsets_of(*sizes))


@given(scored_subsets(), st.sampled_from(["spearman", "pearson"]))
def test_aggregations_are_sentevals(task, metric):
    similarity, pairs = task
    of_subset = [
        {
            "spearman": independent_spearman,
            "pearson": lambda x, y: np.corrcoef(x, y)[0, 1],
        }[metric](similarity[subset], pairs.scores[subset])
        for subset in pairs.subsets.values()
    ]
    sizes = [s.stop - s.start for s in pairs.subsets.values()]
    expected = {
        "mean": 100 * np.average(of_subset),
        "wmean": 100 * np.average(of_subset, weights=sizes),
    }
    for aggregation, value in expected.items():
        found = sts.score(similarity, pairs, metric, aggregation)
        assert found == pytest.approx(value, abs=1e-9)
        bounds = 100 * min(of_subset) - 1e-9, 100 * max(of_subset) + 1e-9
        assert bounds[0] <= found <= bounds[1]


@pytest.mark.slow
@given(scored_subsets(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_count(task, random):
    similarity, pairs = task
    rows = []
    for subset in pairs.subsets.values():
        shuffled = list(range(subset.start, subset.stop))
        random.shuffle(shuffled)
        rows += shuffled
    moved = sts.Pairs([], [], pairs.scores[rows], pairs.subsets)
    for metric in sts.METRICS:
        for aggregation in sts.AGGREGATIONS:
            rule = (metric, aggregation)
            found = sts.score(similarity[rows], moved, *rule)
            assert found == pytest.approx(sts.score(similarity, pairs, *rule))


def test_subsets_of_one_size_weigh_the_same():
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(2, 30))
    pairs = sts.Pairs([], [], y, subsets_of(10, 10, 10))
    found = [sts.score(x, pairs, "pearson", rule) for rule in sts.AGGREGATIONS]
    assert found[1] == pytest.approx(found[2])
    assert found[0] != pytest.approx(found[1])


def test_without_subsets_every_aggregation_is_the_same():
    pairs = sts.Pairs([], [], np.array([1.0, 3.0, 2.0]))
    found = {sts.score([1, 2, 3], pairs, aggregation=a) for a in sts.AGGREGATIONS}
    assert found == {50.0}


def test_a_subset_that_ranks_nothing_counts_as_zero():
    pairs = sts.Pairs([], [], np.array([1.0, 2, 1, 2]), subsets_of(2, 2))
    with pytest.warns(RuntimeWarning, match="rank nothing"):
        found = sts.score([1, 2, 7, 7], pairs, aggregation="mean")
    assert found == pytest.approx(50)


def test_unknown_rules_are_refused():
    pairs = sts.Pairs([], [], np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="aggregation: expected .* 'median'"):
        sts.score([1, 2], pairs, aggregation="median")
    with pytest.raises(ValueError, match="metric: expected .* 'kendall'"):
        sts.score([1, 2], pairs, metric="kendall")


def test_parts_of_an_average_add_up_to_the_mean_of_the_tasks():
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(2, 50))
    tasks = {
        "one": (x[:20], sts.Pairs([], [], y[:20], subsets_of(5, 15))),
        "two": (x[20:], sts.Pairs([], [], y[20:], subsets_of(10, 10, 10))),
    }
    pairs = [pairs for _, pairs in tasks.values()]
    for aggregation in sts.AGGREGATIONS:
        scores = {
            name: sts.score(similarity, pairs, aggregation=aggregation)
            for name, (similarity, pairs) in tasks.items()
        }
        parts = sts.average_parts(pairs, aggregation)
        found = sum(100 * w * sts.spearman(x[part], y[part]) for part, w in parts)
        assert found == pytest.approx(sts.with_average(scores)["avg"])


@needs_real_data
@pytest.mark.parametrize("task", sts.TASKS)
def test_all_scores_of_real_data_equal_scipys(task):
    loaded = sts.load_tasks(REAL, [task])
    similarity = sts.similarities(hashed_bag_of_words, loaded)[task]
    pairs = loaded[task]
    found = sts.all_scores(similarity, pairs)
    assert found["pairs"] == len(pairs)
    assert list(found["subsets"]) == list(pairs.subsets)
    references = {"spearman": scipy.stats.spearmanr, "pearson": scipy.stats.pearsonr}
    for metric, reference in references.items():
        whole = 100 * reference(similarity, pairs.scores).statistic
        assert found[metric]["all"] == pytest.approx(whole, abs=1e-9)
        for name, subset in pairs.subsets.items():
            part = 100 * reference(similarity[subset], pairs.scores[subset]).statistic
            assert found["subsets"][name][metric] == pytest.approx(part, abs=1e-9)
        subsets = [(s[metric], s["pairs"]) for s in found["subsets"].values()]
        values, sizes = zip(*subsets, strict=True)
        assert found[metric]["mean"] == pytest.approx(np.mean(values))
        assert found[metric]["wmean"] == pytest.approx(
            np.average(values, weights=sizes)
        )


def test_pairs_read_before_score_as_pairs_read_by_evaluate_sts(tmp_path):
    write_sts13(tmp_path)
    write_stsb(tmp_path, (5, "c", "c"), (2, "d", "new one"), (0, "b c", "c"))
    tasks = ["STSBenchmark", "STS13"]
    loaded = sts.load_tasks(tmp_path, tasks)
    assert list(loaded) == tasks
    scores = sts.evaluate_pairs(hashed_bag_of_words, loaded)
    assert scores == sts.evaluate_sts(hashed_bag_of_words, tmp_path, tasks)
    for task, similarity in sts.similarities(hashed_bag_of_words, loaded).items():
        a, b = (
            hashed_bag_of_words(side)
            for side in (loaded[task].sentences_a, loaded[task].sentences_b)
        )
        np.testing.assert_array_equal(similarity, sts.cosine_similarity(a, b))
        assert scores[task] == sts.score(similarity, loaded[task])


def test_what_was_encoded_before_is_not_encoded_again():
    calls = []

    def encode(sentences):
        calls.append(sentences)
        return hashed_bag_of_words(sentences)

    once = CachingEncoder(encode)
    for sentences in (["a", "b", "a"], ["b"], ["c", "a", "d"]):
        found = once(sentences)
        np.testing.assert_array_equal(found, hashed_bag_of_words(sentences))
    assert calls == [["a", "b"], ["c", "d"]]


def test_table_has_the_columns_of_the_paper():
    scores = {task: 70 + i / 3 for i, task in enumerate(sts.TASKS)} | {"avg": 71.0}
    titles, values = sts.format_table(scores).splitlines()
    assert titles.split() == (
        ["STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg."]
    )
    assert values.split()[:3] == ["70.00", "70.33", "70.67"]
    assert len(titles) == len(values)


def test_table_of_several_models_marks_what_is_missing():
    table = sts.format_models(
        {"unsup": {"STS12": 68.4, "avg": 68.4}, "sup, ours": {"STSBenchmark": 84.25}}
    )
    titles, unsup, sup = table.splitlines()
    assert titles.split() == ["STS12", "STS-B", "Avg."]
    assert unsup.split() == ["unsup", "68.40", "-", "68.40"]
    assert sup.split() == ["sup,", "ours", "-", "84.25", "-"]
    assert len(titles) == len(unsup) == len(sup)
