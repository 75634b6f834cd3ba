"""A user's own dev and test data: how they are recognised, read and scored."""

import csv
import gzip
import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from simcse_tf.core.errors import UserError
from simcse_tf.evaluation import own_sets, results
from simcse_tf.evaluation.own_files import read_table
from simcse_tf.evaluation.own_sets import RetrievalSet, Triplets
from simcse_tf.evaluation.sts import Pairs
from simcse_tf.evaluation.tasks import find_data, load_tasks, named_data

SCORED = "sentence1,sentence2,score\na b,b a,5\nc d,e f,0\nx,x y,\nc d,c e,2.5\n"
TRIPLETS = "anchor\tpositive\tnegative\na b\ta c\td e\nd e\tf g\td e\n"
texts = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n\t"), min_size=1
).filter(str.strip)


def letters(sentences):
    """An encoder without a model: which letters a text has."""
    return np.array(
        [[1e-3, *(float(c in text) for c in "abcdefgxy")] for text in sentences]
    )


def collapsed(sentences):
    return np.ones((len(sentences), 4))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes files by name, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(**contents):
        for name, text in contents.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return tmp_path

    return write


def beir(files, directory="beir", qrels="q1\td1\t2\nq1\td2\t0\nq2\t3\t1\n", **changed):
    corpus = [
        {"_id": "d1", "title": "a", "text": "b"},
        {"_id": "d2", "text": "c d", "metadata": {}},
        {"_id": 3, "title": "", "text": "e f"},
    ]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate("xaec")]
    contents = {
        "corpus_dot_jsonl": "".join(json.dumps(row) + "\n" for row in corpus),
        "queries_dot_jsonl": "".join(json.dumps(row) + "\n" for row in queries),
        "qrels__test_dot_tsv": f"query-id\tcorpus-id\tscore\n{qrels}",
    }
    files(**{f"{directory}__{n}": t for n, t in {**contents, **changed}.items()})
    return directory


def test_pairs_are_read_without_those_that_have_no_score(files):
    files(mine_dot_csv=SCORED)
    pairs = load_tasks(find_data("mine.csv")).own["mine"]
    assert pairs.sentences_a == ["a b", "c d", "c d"]
    assert pairs.sentences_b == ["b a", "e f", "c e"]
    assert pairs.scores.tolist() == [5, 0, 2.5]


def test_the_same_pairs_in_each_format_are_the_same(files):
    rows = list(csv.DictReader(io.StringIO(SCORED)))
    lines = [
        json.dumps({**row, "id": 7, "score": row["score"] or None}) for row in rows
    ]
    files(
        a_dot_csv="\ufeff" + SCORED.replace("\n", "\r\n"),
        b_dot_tsv="id\t" + SCORED.replace(",", "\t").replace("\n", "\n1\t")[:-2],
        c_dot_jsonl="\n".join(lines),
    )
    table = pa.Table.from_pylist([json.loads(line) for line in lines])
    pq.write_table(table, files() / "d.parquet")
    (files() / "e.csv.gz").write_bytes(gzip.compress(SCORED.encode()))
    with pa.CompressedOutputStream(str(files() / "f.jsonl.zst"), "zstd") as file:
        file.write("\n".join(lines).encode())
    one, *others = (read_table(next(files().glob(f"{n}.*"))) for n in "abcdef")
    for other in others:
        assert (one.sentences_a, one.sentences_b) == (
            (other.sentences_a, other.sentences_b)
        )
        np.testing.assert_array_equal(one.scores, other.scores)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.floats(-9, 9)), min_size=2, max_size=8))
def test_any_pairs_come_back_from_every_format(tmp_path_factory, rows):
    directory = tmp_path_factory.mktemp("own")
    rows = [*rows, ("a", "b", rows[0][2] + 1)]
    header = ("sentence1", "sentence2", "score")
    with (directory / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    lines = ["\t".join(map(str, row)) for row in [header, *rows]]
    (directory / "x.tsv").write_text("\n".join(lines), "utf-8")
    lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    (directory / "x.jsonl").write_text("\n".join(lines), "utf-8")
    for suffix in ("csv", "tsv", "jsonl"):
        read = read_table(directory / f"x.{suffix}")
        assert read.sentences_a == [a for a, _, _ in rows]
        assert read.sentences_b == [b for _, b, _ in rows]
        assert read.scores.tolist() == [score for _, _, score in rows]


def test_a_split_may_be_compressed_or_parquet(files):
    (files() / "mine").mkdir()
    (files() / "mine/dev.csv.gz").write_bytes(gzip.compress(SCORED.encode()))
    columns = {"anchor": ["a"], "positive": ["b"], "negative": ["c"], "x": [[1]]}
    pq.write_table(pa.table(columns), files() / "mine/test.parquet")
    found = find_data("mine")
    assert load_tasks(found, split="dev").own["mine"].scores.tolist() == [5, 0, 2.5]
    assert load_tasks(found).own["mine"] == Triplets(["a"], ["b"], ["c"])
    assert [*find_data("mine/dev.csv.gz").own] == ["mine"]
    (files() / "mine/test.csv").write_text("anchor,positive,negative\na,b,c\n")
    with pytest.raises(UserError, match=r"test\.csv, test\.parquet: expected one of a"):
        find_data("mine")


def test_a_parquet_file_with_other_columns_is_refused(files):
    pq.write_table(pa.table({"q": ["a"], "sentence1": ["b"]}), files() / "x.parquet")
    with pytest.raises(UserError, match='expected rows .* received "q,sentence1"'):
        load_tasks(find_data("x.parquet"))


def test_a_tsv_has_no_quotes(files):
    files(t_dot_tsv='anchor\tpositive\tnegative\n"a\tb\tc\nd\te"\tf\n')
    assert load_tasks(find_data("t.tsv")).own["t"] == Triplets(
        ['"a', "d"], ["b", 'e"'], ["c", "f"]
    )


def test_the_papers_columns_are_triplets_too(files):
    files(t_dot_csv="sent0,sent1,hard_neg\na,b,c\n")
    assert load_tasks(find_data("t.csv")).own["t"] == Triplets(["a"], ["b"], ["c"])


def test_what_a_path_holds_is_recognised(files):
    files(
        my__dev_dot_csv=SCORED, my__test_dot_jsonl='{"anchor":"a","positive":"b",'
        '"negative":"c"}', x__t_dot_tsv=TRIPLETS,
    )  # fmt: skip
    beir(files, "x/beir", qrels__dev_dot_tsv="query-id\tcorpus-id\tscore\nq1\td2\t1\n")
    found = find_data({"my": "my", "b": "x/beir", "tri": "x/t.tsv"})
    kinds = {"my": Pairs, "b": RetrievalSet, "tri": Triplets}
    dev = load_tasks(found, split="dev").own
    assert {name: type(own) for name, own in dev.items()} == kinds
    assert dev["b"].relevant == {"q1": {"d2": 1}}
    assert isinstance(load_tasks(found, ["my"]).own["my"], Triplets)
    # A single file is dev data, and has no test split of its own.
    assert found.available("dev") == ["my", "b", "tri"]
    assert found.available("test") == ["my", "b"]
    assert load_tasks(found, ["tri"]).own["tri"] == dev["tri"]


def test_splits_can_be_named(files):
    files(a_dot_csv=SCORED, b_dot_csv=SCORED.replace("5", "4"))
    beir(files)
    qrels = {"dev": "beir/qrels/test.tsv", "test": "beir"}
    found = find_data({"mine": {"dev": "a.csv", "test": "b.csv"}, "beir": qrels})
    dev, test = (load_tasks(found, split=split).own for split in ("dev", "test"))
    assert (dev["mine"].scores[0], test["mine"].scores[0]) == (5, 4)
    assert dev["beir"] == test["beir"]


def test_a_path_alone_gives_the_name(files):
    files(a__mine_dot_csv=SCORED, b__pairs__dev_dot_csv=SCORED)
    beir(files, "c/scifact")
    names = {
        "a/mine.csv": "mine",
        "b/pairs": "pairs",
        "b/pairs/dev.csv": "pairs",
        "c/scifact": "scifact",
        "c/scifact/qrels/test.tsv": "scifact",
        "other=a/mine.csv": "other",
    }
    for path, name in names.items():
        assert list(find_data(named_data([path])).own) == [name]
    with pytest.raises(
        UserError, match=r"b/pairs and b/pairs/dev\.csv are both called"
    ):
        named_data(["b/pairs", "b/pairs/dev.csv"])


def test_a_document_is_its_title_and_text_and_unjudged_queries_are_left_out(files):
    [own] = load_tasks(find_data(beir(files))).own.values()
    assert own.documents == {"d1": "a b", "d2": "c d", "3": "e f"}
    assert own.queries == {"q1": "a", "q2": "e"}
    assert own.relevant == {"q1": {"d1": 2}, "q2": {"3": 1}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "a,b\n1,2\n", r"x\.csv: expected rows with the columns sentence1,"),
        ("x.csv", "sentence1;sentence2;score\na;b;1\n", r'received "sentence1;sent'),
        ("x.csv", "", r"x\.csv: expected rows with .*, received none"),
        (
            "x.csv",
            "sentence1,sentence2,score\na,b\n",
            r"line 2: expected 3 columns, re",
        ),
        (
            "x.csv",
            "sentence1,sentence2,score\na,b,high\n",
            r"line 2: .* score, rec.*hi",
        ),
        ("x.csv", "sentence1,sentence2,score\na,b,nan\n", r"line 2: expected a score"),
        ("x.csv", "sentence1,sentence2,score\na, ,1\n", r"line 2: sentence2: expected"),
        (
            "x.csv",
            "sentence1,sentence2,score\na,b,1\nc,d,1\n",
            r"different scores, .*2",
        ),
        ("x.csv", "sentence1,sentence2,score\na,b,\n", r"different scores, received 0"),
        ("x.csv", 'sentence1,sentence2,score\n"a,b,1\n', r"x\.csv, line 2: "),
        (
            "x.jsonl",
            '{"sentence1": 3, "sentence2": "a", "score": 1}\n',
            r"line 1: sentence1: ex.*3",
        ),
        ("x.jsonl", "[1]\n", r"x\.jsonl, line 1: expected a JSON object"),
        ("x.jsonl", '{"anchor": "a"', r"x\.jsonl, line 1 is not valid JSON"),
        (
            "x.tsv",
            b"sentence1\tsentence2\tscore\n\xff\tb\t1\n",
            r"line 2: not valid UTF",
        ),
    ],
)
def test_a_malformed_file_is_told_with_the_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as error:
        load_tasks(find_data(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"qrels": "q1\tdx\t1\nq1\td2\t1\n"}, r'1 of 2 .*"dx", are not in corpus'),
        ({"qrels": "q9\td1\t1\n"}, r'test\.tsv, line 2: "q9" is not in queries\.jsonl'),
        ({"qrels": "q1\td1\thigh\n"}, r"line 2: expected a whole number .*high"),
        ({"qrels": "q1\td1\t0\n"}, r"test\.tsv holds no relevant document"),
        (
            {"qrels__test_dot_tsv": "q1\td1\t1\nq1\td2\t1\n"},
            r"line 1: expected a header",
        ),
        (
            {"corpus_dot_jsonl": '{"_id": "d1"}\n'},
            r"corpus\.jsonl, line 1: expected an",
        ),
        (
            {"queries_dot_jsonl": '{"_id": "q1", "text": "a"}\n' * 2},
            r'queries\.jsonl, line 2: the _id "q1" is there twice',
        ),
    ],
)
def test_a_damaged_retrieval_set_is_told(files, changed, message):
    directory = beir(files, **changed)
    with pytest.raises(UserError, match=message):
        load_tasks(find_data(directory))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", r'--data: expected a SentEval directory .*; received "nowhere"'),
        ("x.txt", r"or such a file; received"),
        ("empty", r"expected a SentEval directory"),
        ({"avg": "x.csv"}, r'"avg" cannot name a set'),
        ({"STS12": "x.csv"}, r'"STS12" cannot name a set'),
        ({"a:b": "x.csv"}, r'"a:b" cannot name a set: expected letters, digits'),
        ({}, r"received none"),
        ({"a": {"train": "x.csv"}}, r'expected files for "dev" and "test"'),
        ({"a": "senteval", "b": "senteval"}, r"expected one SentEval directory"),
        ({"a": {"dev": "senteval"}}, r"expected one SentEval directory, with its own"),
        ("both", r"both holds dev\.csv, dev\.tsv: expected one of a split"),
    ],
)
def test_what_is_no_evaluation_data_is_told(files, data, message):
    files(
        x_dot_csv=SCORED, x_dot_txt="a", empty__y="", senteval__STS__x="",
        both__dev_dot_csv=SCORED, both__dev_dot_tsv=SCORED,
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        find_data(data)


def test_a_split_or_a_name_that_is_not_there_is_told(files):
    files(my__dev_dot_csv=SCORED)
    found = find_data("my")
    with pytest.raises(UserError, match="my has no test split, expected one of dev"):
        load_tasks(found)
    with pytest.raises(UserError, match="unknown task 'STS12'.*Known: my"):
        load_tasks(found, ["STS12"])


def test_a_few_documents_that_a_corpus_lacks_count_as_not_found(files):
    qrels = "".join(f"q1\td{i}\t1\n" for i in range(200))
    rows = [{"_id": f"d{i}", "text": "abcde"[i % 5]} for i in range(1, 200)]
    corpus = "".join(json.dumps(row) + "\n" for row in rows)
    with pytest.warns(
        RuntimeWarning, match=r'1 of 200 .*"d0", are not in .* not found'
    ):
        tasks = load_tasks(find_data(beir(files, qrels=qrels, corpus_dot_jsonl=corpus)))
    scores = results.evaluate(letters, tasks)
    assert scores["beir:recall@100"] == 100 * 100 / 200
    assert len(tasks.own["beir"].relevant["q1"]) == 200


def test_scores_equal_their_definitions(files):
    files(mine_dot_csv=SCORED, tri_dot_tsv=TRIPLETS)
    tasks = load_tasks(find_data(named_data(["mine.csv", "tri.tsv", beir(files)])))
    scores = results.evaluate(letters, tasks)
    pairs = tasks.own["mine"]
    a, b = letters(pairs.sentences_a), letters(pairs.sentences_b)
    cosines = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
    expected = scipy.stats.spearmanr(cosines, pairs.scores).statistic
    assert scores["mine"] == pytest.approx(100 * expected)
    assert scores["tri"] == 50
    assert {name for name in scores if name.startswith("beir:")} == {
        "beir:ndcg@10", "beir:mrr@10", "beir:recall@10", "beir:recall@100",
    }  # fmt: skip
    assert scores["beir:ndcg@10"] == scores["beir:recall@100"] == 100
    mean = (scores["mine"] + 50 + scores["beir:ndcg@10"]) / 3
    assert scores["own_avg"] == scores["avg"] == pytest.approx(mean)


def test_the_average_stays_that_of_the_sts_tasks(files):
    files(mine_dot_csv=SCORED)
    own = load_tasks(find_data("mine.csv")).own
    pairs = own["mine"]
    turned = Pairs(pairs.sentences_a, pairs.sentences_b, -pairs.scores)
    tasks = results.Tasks(sts={"STS12": turned}, own=own)
    scores = results.evaluate(letters, tasks)
    assert scores["avg"] == scores["STS12"] == -scores["own_avg"]


def test_a_query_among_the_documents_is_no_answer_unless_it_is_judged():
    documents = {"q": "a", "d": "a b", "e": "c"}
    for relevant, expected in (({"d": 1}, 1.0), ({"q": 1, "e": 1}, 1.0)):
        own = RetrievalSet({"q": "a"}, documents, {"q": relevant})
        found = own_sets.measure_sets(letters, {"s": own})
        assert found["s:mrr@10"].tolist() == [expected]


def test_a_collapsed_model_is_undefined_or_wrong_and_never_good(files):
    files(mine_dot_csv=SCORED, tri_dot_tsv=TRIPLETS)
    tasks = load_tasks(find_data(named_data(["mine.csv", "tri.tsv", beir(files)])))
    scores = results.evaluate(collapsed, tasks, math.nan)
    assert scores["tri"] == 0
    assert all(math.isnan(s) for name, s in scores.items() if name != "tri")
    with pytest.warns(RuntimeWarning, match="set to 0"):
        scores = results.evaluate(collapsed, tasks)
    assert set(scores.values()) == {0}


def test_every_text_is_encoded_once(files):
    files(mine_dot_csv=SCORED, tri_dot_tsv=TRIPLETS)
    tasks = load_tasks(find_data(named_data(["mine.csv", "tri.tsv", beir(files)])))
    seen = []
    results.measure(lambda s: letters(seen.extend(s) or s), tasks)
    assert len(seen) == len(set(seen))


def test_intervals_and_differences_are_drawn_from_the_examples():
    draw = np.random.default_rng(0)
    hits = draw.integers(0, 2, (2, 400)).astype(float)
    sets = {"t": Triplets([""] * 400, [""] * 400, [""] * 400)}
    found = own_sets.set_estimates({"t": hits[0]}, sets)["t"]
    assert found.value == 100 * hits[0].mean()
    deviation = 100 * hits[0].std() / 20
    assert found.low == pytest.approx(found.value - 1.96 * deviation, abs=deviation / 5)
    assert found.high == pytest.approx(
        found.value + 1.96 * deviation, abs=deviation / 5
    )
    same = own_sets.set_comparisons({"t": hits[0]}, {"t": hits[0]}, sets)["t"]
    assert (same.difference, same.p_value) == (0, 1)
    other = own_sets.set_comparisons({"t": hits[0]}, {"t": hits[1]}, sets)["own_avg"]
    assert other.difference == pytest.approx(100 * (hits[0] - hits[1]).mean())
