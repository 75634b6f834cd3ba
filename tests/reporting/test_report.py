import csv
import functools
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from support.browser import GOOD_LOOKS, chromium, looks
from support.models import SENTENCES

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.datasets import grammar
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.evaluation import (
    geometry,
    results,
    retrieval,
    significance,
    sts,
    transfer,
)
from simcse_tf.evaluation.tasks import Tasks, find_data, load_tasks
from simcse_tf.report import main, report
from simcse_tf.reporting import build, pictures
from simcse_tf.reporting.run import ReportedRun, config_rows, read_run
from simcse_tf.training import checkpoint
from simcse_tf.training.config import parse_config
from simcse_tf.training.run import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_tasks")]

FIGURES = [
    "cosine_density",
    "singular_values",
    "sts_scores",
    "training_curves",
    "trajectory",
]
HOSTILE = [
    "<script>document.title='broken'</script><img src=x onerror=alert(1)>",
    "</article></main>\"'&amp; {{ 7 * 7 }} {% raw %} an $\\frac{x}$ in it",
    "https://example.org/" + "a_very_long_word_without_any_break_" * 8,
]
HOSTILE_NAME = "<script>x<img src=x onerror=x>\"'&amp; {{ 7 * 7 }} $\\frac{x}$"
STEPS = 6


def write_sts13(directory):
    """Three subsets, with sentences that are markup."""
    directory.mkdir(parents=True)
    for shift, name in enumerate(("FNWN", "headlines", "OnWN"), start=1):
        sentences = [*SENTENCES, *HOSTILE]
        pairs = zip(sentences, sentences[shift:] + sentences[:shift], strict=True)
        lines = ["\t".join(pair) for pair in pairs]
        scores = [str(i % 6) for i in range(len(lines))]
        (directory / f"STS.input.{name}.txt").write_text("\n".join(lines))
        (directory / f"STS.gs.{name}.txt").write_text("\n".join(scores))


def write_stsb(directory, pairs):
    """The grammar's pairs as STS-B's."""
    directory.mkdir(parents=True)
    for split in ("dev", "test"):
        with (pairs / f"{split}.csv").open(newline="") as file:
            rows = [
                f"g\tf\ty\t0\t{row['score']}\t{row['sentence1']}\t{row['sentence2']}\n"
                for row in csv.DictReader(file)
            ]
        (directory / f"sts-{split}.csv").write_text("".join(rows))


def write_transfer(directory):
    """SST2 and MRPC, which have splits: a fit for each C and fold."""
    binary = directory / "SST" / "binary"
    binary.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = [f"{text} {i}\t{i // 8 % 2}" for i, text in enumerate(SENTENCES * 6)]
        (binary / f"sentiment-{split}").write_text("\n".join(lines))
    (directory / "MRPC").mkdir()
    for split in ("train", "test"):
        rows = [
            f"{i // 2 % 2}\t{i}\t{i}\t{SENTENCES[i % 8]}\t{SENTENCES[i * 3 % 8]}"
            for i in range(40)
        ]
        path = directory / "MRPC" / f"msr_paraphrase_{split}.txt"
        path.write_text(
            "\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *rows])
        )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_preset, small_tasks):
    """Data in SentEval's layout, a run, and another of its kind with another model."""
    path = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar, "PAIRS_PER_GRADE", {"dev": 6, "test": 6})
        grammar.write(path, 32)
    write_stsb(path / "senteval" / "STS" / "STSBenchmark", path / "pairs")
    write_sts13(path / "senteval" / "STS" / "STS13-en-test")
    write_transfer(path / "senteval")
    config = {
        "model": {"preset": str(tiny_preset), "pooling": "avg"},
        "data": {
            "train": str(path / "nli.csv"),
            "evaluation": str(path / "senteval"),
        },
        "training": {
            "batch_size": 16,
            "max_steps": STEPS,
            "evaluate_every": 3,
            "learning_rate": 0.01,
        },
        "evaluation": {"geometry_every": 2, "test": False},
        "output_dir": str(path / "one"),
    }
    train(parse_config(config))
    shutil.copytree(path / "one", path / "other", symlinks=True)
    config["objective"] = {"temperature": 0.1}
    (path / "other" / "config.json").write_text(parse_config(config).to_json())
    untrained = SimCSE.from_preset(str(tiny_preset), pooling="avg_first_last")
    checkpoint.save_best(str(path / "other"), untrained)
    return path


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Keeps each model, and what it has encoded, from one report to the next."""
    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(build._caching_encoder)
        patch.setattr(build, "_caching_encoder", load)
        yield


@pytest.fixture
def no_figures(monkeypatch):
    """Leaves out what takes the time, where a test is about something else."""
    monkeypatch.setattr(pictures, "draw", lambda *arguments, **options: {})


@pytest.fixture(scope="module")
def page(workspace):
    """The report of everything there is: two runs, STS and transfer tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "TASKS", ("SST2", "MRPC"))
        return report(
            workspace / "one", str(workspace / "other"), kinds=("sts", "transfer")
        )


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page.read_text("utf-8"))


class Outline(HTMLParser):
    """A page's text by section, its tables and its attributes; checks the nesting."""

    VOID = ("meta", "link", "img", "source")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tables, self.sections = [], [], [], {}
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        self.handle_data(" ")
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attributes)["id"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.handle_data(" ")

    def handle_data(self, data):
        if "style" in self.open:
            return
        text = self.sections.get(self.section, "")
        self.sections[self.section] = text + data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]

    def words(self, section=""):
        return " ".join(self.sections[section].split())

    def rows(self, table):
        """Rows of a table by their first cell."""
        return {
            row[0].split()[-1] if row[0].strip() else "": [
                " ".join(cell.split()) for cell in row[1:]
            ]
            for row in self.tables[table]
        }


def shown(value, digits=2):
    return f"{value:.{digits}f}".replace("-", "−")


@pytest.fixture(scope="module")
def reference(workspace):
    """Embeddings of the two best models, straight from the encoder."""
    models = {}
    for name in ("one", "other"):
        model = SimCSE.from_preset(str(workspace / name / "best"))
        models[name] = ModelEncoder(model, 64)
    return models


def test_scores_differences_and_intervals_are_those_of_the_best_models(
    outline, workspace, reference
):
    loaded = sts.load_tasks(workspace / "senteval", ("STS13", "STSBenchmark"))
    one, other = (sts.similarities(reference[name], loaded) for name in reference)
    rows = outline.rows(0)
    assert list(rows) == ["", "Task", "STS13", "STS-B", "Avg."]
    averages = [[], []]
    for label, (task, pairs) in zip(("STS13", "STS-B"), loaded.items(), strict=True):
        pairs_cell, *cells, difference, p = rows[label]
        assert pairs_cell == str(len(pairs))
        expected = []
        for i, similarity in enumerate((one[task], other[task])):
            for metric in ("spearman", "pearson"):
                score = sts.score(similarity, pairs, metric)
                low, high = significance.confidence_interval(
                    similarity, pairs.scores, metric=metric
                )
                expected.append(f"{shown(score)} {shown(low)} to {shown(high)}")
                if metric == "spearman":
                    averages[i].append(score)
        assert cells == expected
        found = significance.compare(one[task], other[task], pairs.scores)
        assert difference.lstrip("+").split()[0] == shown(found.difference)
        assert p == f"{found.p_value:.3f}"
    means = [np.mean(scores) for scores in averages]
    assert rows["Avg."][1].split()[0] == shown(means[0])
    assert rows["Avg."][3].split()[0] == shown(means[1])
    assert rows["Avg."][5].split()[0].lstrip("+") == shown(means[0] - means[1])
    assert f"Average of 2 STS tasks: {shown(means[0])}" in outline.words()


def test_every_subset_has_its_score(outline, workspace, reference):
    pairs = sts.load_task(workspace / "senteval", "STS13")
    similarities = sts.similarities(reference["one"], {"STS13": pairs})["STS13"]
    subsets = [[cell.strip() for cell in row] for row in outline.tables[1][1:]]
    assert subsets[0][:3] == ["STS13", "FNWN", "11"]
    found = {row[-4]: row[-2] for row in subsets}
    part = pairs.subsets["OnWN"]
    score = 100 * sts.spearman(similarities[part], pairs.scores[part])
    assert found["OnWN"] == shown(score)
    for aggregation in ("all", "mean", "wmean"):
        score = sts.score(similarities, pairs, aggregation=aggregation)
        assert found[aggregation] == shown(score)


def test_geometry_is_that_of_the_dev_split(outline, workspace, reference):
    pairs = sts.load_task(workspace / "senteval", "STSBenchmark", "dev")
    rows = {row[0].strip(): row[1:] for row in outline.tables[3]}
    for name, encode in reference.items():
        expected = geometry.stsb_geometry(encode, pairs)
        sentences = list(dict.fromkeys([*pairs.sentences_a, *pairs.sentences_b]))
        cosine = geometry.average_cosine(encode(sentences))
        assert rows[name] == [
            shown(expected["alignment"], 3), shown(expected["uniformity"], 3),
            shown(cosine, 3),
        ]  # fmt: skip


def test_transfer_accuracies_are_there_when_asked_for(outline):
    rows = outline.rows(2)
    assert list(rows) == ["Task", "SST", "MRPC", "(F1)", "Avg."]
    accuracies = [float(rows[task][0].split()[0]) for task in ("SST", "MRPC", "Avg.")]
    assert accuracies[2] == pytest.approx(np.mean(accuracies[:2]), abs=0.01)
    assert re.search(r"one: encoding took [\d.]+ s, fitting", outline.words("transfer"))


def test_retrieval_finds_what_the_models_find(outline, workspace, reference):
    text = outline.words("retrieval")
    loaded = sts.load_tasks(workspace / "senteval", ("STS13", "STSBenchmark"))
    corpus = [
        sentence
        for pairs in loaded.values()
        for sentence in (*pairs.sentences_a, *pairs.sentences_b)
    ]
    benchmark = loaded["STSBenchmark"]
    queries = re.findall(r"Query: (.+?) one \d", text)
    assert len(queries) == 5
    assert set(queries) <= {*benchmark.sentences_a, *benchmark.sentences_b}
    assert f"among {len(set(corpus))} different ones" in text
    for example in retrieval.examples(reference, queries, corpus):
        for name, hits in example.hits.items():
            listed = " ".join(f"{hit.cosine:.3f} {hit.sentence}" for hit in hits)
            assert f"{name} {listed}" in text


def test_config_marks_what_differs(outline):
    rows = outline.rows(4)
    assert list(rows)[-1] == "output_dir"
    assert rows["objective.temperature"] == ["0.05", "0.05", "0.1"]
    assert rows["training.max_steps"] == ["6", "null", "6"]
    marked = [row[0].split()[-1] for row in outline.tables[4] if "●" in row[0]]
    assert set(marked) == {
        "objective.temperature", "data.evaluation", "evaluation.geometry_every",
        "evaluation.test", "training.batch_size", "training.evaluate_every",
        "training.learning_rate", "training.max_steps", "model.pooling",
    }  # fmt: skip


def test_data_speed_and_versions_are_told(outline):
    import tensorflow as tf

    training = outline.words("training")
    assert "32 rows" in training
    assert "6 of 6, 16 examples each" in training
    assert "Epochs 3.00" in training
    assert re.search(r"[\d,]+ examples a second \(median step\)", training)
    assert "has not finished" not in training
    assert f"tensorflow {tf.__version__}" in outline.words("versions")


def test_the_page_asks_nobody_for_anything(page, outline):
    for name in ("src", "srcset", "href", "action", "data", "poster"):
        for value in outline.values(name):
            assert value.startswith(("data:", "#")), value
    tags = {tag for tag, _, _ in outline.attributes}
    assert not tags & {"script", "iframe", "object", "form"}
    style = re.search(r"<style>(.*?)</style>", page.read_text(), re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert page.stat().st_size < 1_500_000


def test_sentences_that_are_markup_are_text(page, no_figures):
    output = page.parent / "hostile" / "page.html"
    queries = page.parent / "queries.txt"
    queries.write_text("\n".join(HOSTILE))
    report(page.parent, queries=str(queries), corpus=str(queries), output=output)
    outline = Outline(output.read_text("utf-8"))
    text = outline.words("retrieval")
    for sentence in HOSTILE:
        assert f"Query: {sentence}" in text
    assert not outline.values("onerror")


def test_figures_are_files_and_images_for_both_schemes(page, outline):
    for name in FIGURES:
        png, svg = (
            page.parent / "figures" / f"{name}.{kind}" for kind in ("png", "svg")
        )
        assert png.read_bytes().startswith(b"\x89PNG")
        assert "<svg" in svg.read_text()
    light, dark = outline.values("src"), outline.values("srcset")
    assert len(light) == len(dark) == len(FIGURES)
    assert not set(light) & set(dark)
    for alt in outline.values("alt"):
        assert "one: " in alt
        assert "other: " in alt


@pytest.mark.slow
def test_each_model_encodes_every_sentence_once(
    workspace, tmp_path, monkeypatch, no_figures
):
    from simcse_tf.encoding import model_encoder as encode_module

    batches = []
    encode = encode_module.encode

    def counted(model, sentences, **options):
        batches.append(list(sentences))
        return encode(model, sentences, **options)

    monkeypatch.setattr(encode_module, "encode", counted)
    load = build._caching_encoder.__wrapped__
    monkeypatch.setattr(build, "_caching_encoder", load)
    report(workspace / "one", str(workspace / "other"), output=tmp_path / "page.html")
    assert len(batches) == 2
    assert batches[0] == batches[1]
    assert len(set(batches[0])) == len(batches[0])


@pytest.mark.slow
def test_any_model_can_be_compared(workspace, tmp_path, tiny_preset):
    output = report(workspace / "one", str(tiny_preset), output=tmp_path / "page.html")
    outline = Outline(output.read_text("utf-8"))
    assert f"Against {tiny_preset}" in outline.words()
    assert [cell.strip() for cell in outline.tables[0][0][2:4]] == [
        "one", str(tiny_preset),
    ]  # fmt: skip
    # No run, no config.
    assert all(len(row) == 3 for row in outline.tables[-1])
    assert (tmp_path / "figures" / "trajectory.svg").is_file()


def test_a_run_against_itself_differs_in_nothing(workspace, tmp_path, no_figures):
    run = workspace / "one"
    output = report(run, str(run), output=tmp_path / "page.html")
    outline = Outline(output.read_text("utf-8"))
    assert f"No significant difference from {run}: 0.00" in outline.words()
    assert outline.rows(0)["Avg."][-1] == "1.000"


@pytest.fixture
def bare_run(workspace, tmp_path):
    """A run without log, evaluation data, dev scores and checkpoint."""
    run = tmp_path / "bare"
    shutil.copytree(workspace / "one" / "best", run / "best")
    (run / "best" / "dev.json").unlink()
    config = json.loads((workspace / "one" / "config.json").read_text())
    config["data"]["evaluation"] = config["evaluation"]["geometry_every"] = None
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_a_run_without_data_and_log_says_what_is_left_out(bare_run):
    outline = Outline(report(bare_run).read_text("utf-8"))
    assert "Pass --data DIR" in outline.words("sts")
    assert "no log (metrics.jsonl)" in outline.words("training")
    assert "Not measured" in outline.words("geometry")
    assert "Pass --queries and --corpus" in outline.words("retrieval")
    assert outline.values("src") == []
    assert "model.preset" in outline.words("config")


def test_data_of_ones_own_take_the_place_of_the_runs(bare_run, workspace, no_figures):
    page = report(bare_run, data=str(workspace / "senteval"))
    assert list(Outline(page.read_text("utf-8")).rows(0))[2:] == [
        "STS13", "STS-B", "Avg.",
    ]  # fmt: skip


def test_own_data_have_a_table_with_differences(workspace, tmp_path, no_figures):
    (tmp_path / "tri.tsv").write_text(
        "anchor\tpositive\tnegative\n"
        + "".join(f"{a}\t{a} again\t{b}\n" for a, b in itertools.pairwise(SENTENCES))
    )
    data = {"mine": str(workspace / "pairs"), "tri": str(tmp_path / "tri.tsv")}
    page = report(
        workspace / "one", str(workspace / "other"), data, output=tmp_path / "p.html"
    )
    outline = Outline(page.read_text("utf-8"))
    rows = outline.rows(0)
    assert list(rows) == ["Score", "mine", "tri", "Avg."]
    own = load_tasks(find_data(data["mine"])).own["pairs"]
    encoders = [
        ModelEncoder(SimCSE.from_preset(str(workspace / name / "best")), 64)
        for name in ("one", "other")
    ]
    one, other = (results.evaluate(e, Tasks(own={"m": own}))["m"] for e in encoders)
    examples, *cells = (cell.split()[0] for cell in rows["mine"])
    assert examples == str(len(own))
    assert [cells[0], cells[1], cells[2].lstrip("+")] == [
        shown(one), shown(other), shown(one - other),
    ]  # fmt: skip
    assert rows["tri"][0] == str(len(SENTENCES) - 1)
    assert "Average of 2 own sets" in outline.words()
    assert "Not evaluated: the data below are others." in outline.words("sts")
    assert {example.strip() for example in outline.values("href")} > {"#own"}


def test_a_run_that_ended_early_is_finished(workspace, tmp_path, no_figures):
    run = tmp_path / "run"
    shutil.copytree(workspace / "one", run, symlinks=True)
    log = run / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(True)[:3]))
    state = dict(np.load(run / "last" / "training_state.npz"))
    state["progress"] = json.dumps({"step": 3, "stale": 2, "ended": True})
    np.savez(run / "last" / "training_state.npz", **state)
    values = json.loads((run / "config.json").read_text())
    values["evaluation"]["patience"] = 2
    (run / "config.json").write_text(json.dumps(values))
    words = Outline(report(run).read_text("utf-8")).words("training")
    assert "ended early, at step 3: 2 evaluations without a better dev score" in words
    assert "not finished" not in words


def test_a_run_that_goes_on_is_read_up_to_its_last_whole_line(
    workspace, tmp_path, no_figures
):
    run = tmp_path / "run"
    shutil.copytree(workspace / "one", run, symlinks=True)
    log = run / "metrics.jsonl"
    lines = log.read_text().splitlines(True)
    log.write_text("".join(lines[:3]) + '{"step": 4, "lo')
    found = read_run(run)
    assert [row["step"] for row in found.rows] == [1, 2, 3]
    outline = Outline(report(run, output=tmp_path / "p.html").read_text("utf-8"))
    assert "This run has not finished" in outline.words("training")
    assert "step 3 of 6" in outline.words("training")


def test_a_model_that_is_replaced_meanwhile_is_told(workspace, tmp_path, monkeypatch):
    run = tmp_path / "goes-on"
    shutil.copytree(workspace / "one", run, symlinks=True)

    def replaced(model, **reading):
        (run / "best" / "dev.json").write_text('{"step": 9, "avg": 99.0}')

    monkeypatch.setattr(build, "_caching_encoder", replaced)
    with pytest.raises(UserError, match="goes-on has a better model since the report"):
        report(run)


def test_a_best_model_without_a_score_that_counts_says_so(
    workspace, tmp_path, no_figures
):
    run = tmp_path / HOSTILE_NAME
    shutil.copytree(workspace / "one", run, symlinks=True)
    (run / "best" / "dev.json").write_text('{"step": 3}')
    page = report(run).read_text("utf-8")
    outline = Outline(page)
    assert "Avg. dev undefined" in page
    # Nothing of the name has become a tag.
    assert HOSTILE_NAME in outline.words()
    assert "<script" not in page
    assert not outline.values("onerror")


def test_time_and_rate_come_from_the_steps(workspace):
    run = read_run(workspace / "one")
    rates = [row["examples_per_second"] for row in run.rows]
    assert len(rates) == STEPS
    assert run.rate == pytest.approx(np.median(rates))
    assert run.seconds == pytest.approx(sum(16 / rate for rate in rates))


def test_required_keys_have_no_default(workspace):
    rows = {row.key: row for row in config_rows(read_run(workspace / "one"), None)}
    assert rows["model.preset"].default is None
    assert not rows["model.preset"].is_changed
    assert rows["data.shuffle"].default == "true"
    assert rows["training.batch_size"].is_changed


def break_run(run, what):
    if what == "best":
        shutil.rmtree(run / "best")
        (run / "metrics.jsonl").touch()
    elif what == "config":
        (run / "config.json").write_text('{"model": {"preset": "x", "poolin": "cls"}}')
    elif what == "json":
        (run / "config.json").write_text("{")
    elif what == "log":
        (run / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    elif what == "step":
        (run / "metrics.jsonl").write_text('{"loss": 1}\n')


@pytest.mark.parametrize(
    ("what", "arguments", "message"),
    [
        ("", ["--run", "nowhere"], "no run nowhere"),
        ("", ["--run", "{run}/best"], "holds no run"),
        ("best", [], "has no best/ yet"),
        ("config", [], "unknown key model.poolin"),
        ("json", [], "is not valid JSON"),
        ("log", [], "metrics.jsonl, line 2 is not valid JSON"),
        ("step", [], "metrics.jsonl, line 1: expected numbers"),
        ("", ["--compare", "nowhere"], "no model 'nowhere'"),
        ("", ["--data", "{run}"], "--data: expected a SentEval directory"),
        ("", ["--data", "{run}/.."], "no STS task in"),
        ("", ["--data", "{run}/..", "--tasks", "transfer"], "does not exist"),
        ("", ["--data", "avg={run}/config.json"], "--data: expected a SentEval"),
        ("", ["--tasks", "sst"], "--tasks: expected some of sts, own, transfer"),
        ("", ["--queries", "nowhere.txt"], "cannot read nowhere.txt"),
        ("", ["--queries", "{run}/config.json"], "--corpus: expected a file"),
        ("", ["--output", "{run}/config.json/page.html"], "--output: cannot write"),
        ("", ["--output", "{run}"], "--output: cannot write"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_is_encoded(
    bare_run, what, arguments, message, monkeypatch
):
    monkeypatch.setattr(
        "simcse_tf.model.bulk.encode", lambda *a, **o: pytest.fail("encoded already")
    )
    break_run(bare_run, what)
    (bare_run.parent / "MR").mkdir()
    arguments = [argument.format(run=bare_run) for argument in arguments]
    with pytest.raises(UserError, match=re.escape(message)):
        main(["--run", str(bare_run), *arguments])
    assert not (bare_run / "report.html").exists()
    assert not (bare_run / "figures").exists()


def test_the_command_line_prints_where_the_page_is(bare_run, capsys, no_figures):
    main(["--run", str(bare_run)])
    assert re.match(rf"{bare_run}/report.html: 0.\d+ MB\n", capsys.readouterr().out)


# === In a browser ===


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened(browser, page, workspace, tmp_path_factory):
    """Opens the report, and one with hostile names and sentences, in a window."""
    pages = {"report": page, "hostile": hostile_page(workspace, tmp_path_factory)}

    def open_page(which, width, scheme):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        tab = context.new_page()
        tab.requests, tab.errors = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("console", lambda message: tab.errors.append(message.text))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.on("dialog", lambda dialog: pytest.fail("a script ran"))
        tab.goto(pages[which].as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        return tab

    return open_page


def hostile_page(workspace, tmp_path_factory):
    directory = tmp_path_factory.mktemp("hostile")
    run = directory / ("<b>a_$x$_name_without_an_end_" + "x" * 60)
    shutil.copytree(workspace / "one", run, symlinks=True)
    queries = directory / "queries.txt"
    queries.write_text("\n".join([*HOSTILE, *SENTENCES[:2]]))
    return report(
        run, str(workspace / "other"), queries=str(queries), corpus=str(queries)
    )


# Each of two once with each of the others always, all where there is time.
VIEWS = [
    pytest.param(*view, marks=() if odd in (0, 3, 5, 6) else pytest.mark.attack)
    for odd, view in enumerate(
        itertools.product(["report", "hostile"], [1280, 390], ["light", "dark"])
    )
]


@pytest.mark.parametrize(("which", "width", "scheme"), VIEWS)
def test_in_a_browser_nothing_is_cut_overlaps_or_is_fetched(
    opened, which, width, scheme
):
    tab = opened(which, width, scheme)
    assert [url for url in tab.requests if not url.startswith("data:")] == [tab.url]
    assert tab.errors == []
    assert tab.title() != "broken"
    assert looks(tab) == GOOD_LOOKS
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    images = tab.evaluate("[...document.images].map(i => i.currentSrc)")
    attribute = "srcset" if scheme == "dark" else "src"
    assert len(images) == len(FIGURES)
    shown = tab.evaluate(
        f"[...document.querySelectorAll('picture [{attribute}]')]"
        f".map(e => e.getAttribute('{attribute}'))"
    )
    assert images == shown
    tab.context.close()


def test_printing_shows_the_light_figures_and_what_is_folded(opened):
    tab = opened("report", 1280, "dark")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    images = tab.evaluate("[...document.images].every(i => i.currentSrc === i.src)")
    assert images
    tab.context.close()


def test_the_contents_lead_to_their_sections(opened):
    tab = opened("report", 390, "light")
    links = tab.locator("nav a")
    assert links.count() == 7
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")
        assert tab.locator(target).count() == 1
    tab.context.close()


def test_a_best_model_without_a_defined_dev_score_is_told():
    for dev, select, told in (
        ({"step": 2}, None, "Avg. dev undefined"),
        ({"step": 2, "STSBenchmark": 81.234, "avg": 80.0}, None, "STS-B dev 81.23"),
        ({"step": 2, "STSBenchmark": 81.2, "mine": 70.0}, "mine", "mine dev 70.00"),
        ({"step": 2, "STSBenchmark": 81.2}, "mine", "mine dev undefined"),
    ):
        config = SimpleNamespace(evaluation=SimpleNamespace(select=select))
        run = ReportedRun(None, config, [], dev)
        told_of = SimpleNamespace(run=run)
        assert build.page.Report.best_score.fget(told_of) == told


def test_geometry_that_a_step_did_not_have_is_no_point():
    rows = [
        {"step": 1, "alignment": 0.2, "uniformity": -1.0},
        {"step": 2, "alignment": None, "uniformity": None},
        {"step": 3},
    ]
    run = SimpleNamespace(rows=rows, dev={})
    found = pictures.trajectories({"one": run}, {"one": SimpleNamespace(geometry=None)})
    assert list(found["one"].steps) == [1]
