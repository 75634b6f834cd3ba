import functools
import itertools
import json
import os
import re
import subprocess
import sys

import pytest
from support.models import MINILM, ROOT, SENTENCES, make_preset

from simcse_tf import SimCSE
from simcse_tf.core.errors import UserError
from simcse_tf.encoders.base import longest_input
from simcse_tf.encoding import model_encoder
from simcse_tf.evaluate import main
from simcse_tf.evaluation import significance, sts, transfer

pytestmark = pytest.mark.usefixtures("small_tasks")

PUBLISHED = {
    "STS12": 72.37,
    "STS13": 80.60,
    "STS14": 75.59,
    "STS15": 85.39,
    "STS16": 78.99,
    "STSBenchmark": 82.03,
    "SICKRelatedness": 77.15,
}


def run(*arguments):
    main([*map(str, arguments)])


# One of the seven always, all of them where there is time.
@pytest.mark.slow
@pytest.mark.parametrize(
    "tasks",
    [["STSBenchmark"], pytest.param([*PUBLISHED], marks=pytest.mark.attack)],
    ids=["one", "all seven"],
)
def test_minilm_scores_as_published(data_dir, tmp_path, capsys, tasks):
    out = tmp_path / "out.json"
    chosen = [] if tasks == [*PUBLISHED] else ["--tasks", ",".join(tasks)]
    run(
        *("--model", MINILM, "--pooling", "avg", *chosen),
        *("--data", data_dir / "senteval", "--json", out),
    )
    scores = json.loads(out.read_text())
    assert list(scores) == [*tasks, "avg"]
    for task in tasks:
        assert scores[task] == pytest.approx(PUBLISHED[task], abs=0.02), task
    mean = sum(scores[task] for task in tasks) / len(tasks)
    assert scores["avg"] == pytest.approx(mean, abs=1e-9)
    assert f"{scores['avg']:.2f}" in capsys.readouterr().out


def test_dev_split_and_task_names(data_dir, small_preset, tmp_path):
    out = tmp_path / "out.json"
    run(
        *("--model", small_preset, "--data", data_dir / "senteval"),
        *("--tasks", "sick-r", "--split", "dev", "--json", out),
    )
    assert list(json.loads(out.read_text())) == ["SICKRelatedness", "avg"]


def write_tasks(root):
    """STS-B, both splits, and CR: small enough for a random model in a test."""
    pairs = list(itertools.combinations(SENTENCES, 2))[:20]
    for split in ("dev", "test"):
        path = root / "STS/STSBenchmark" / f"sts-{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"g\tf\ty\t1\t{i % 6}\t{a}\t{b}" for i, (a, b) in enumerate(pairs)]
        path.write_text("\n".join(rows) + "\n")
    (root / "CR").mkdir()
    for name, word in (("pos", "good"), ("neg", "bad")):
        lines = [f"{word} {sentence}\n" for sentence in SENTENCES * 3]
        (root / "CR" / f"custrev.{name}").write_text("".join(lines))
    return root


@functools.cache
def raw_encoder(preset):
    """What the command line is to take: embeddings as they come, sentences not cut."""
    model = SimCSE.from_preset(str(preset), pooling="avg")
    length = longest_input(model.backbone)
    return model_encoder.ModelEncoder(model, length, normalize=False)


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Keeps each model from one command to the next."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(model_encoder.load_encoder)
        patch.setattr(model_encoder, "load_encoder", cached)
        yield


@pytest.mark.slow
def test_the_first_dimensions_alone_may_be_scored(small_preset, tmp_path):
    data, out = write_tasks(tmp_path / "data"), tmp_path / "out.json"
    flags = ["--pooling", "avg", "--data", data, "--tasks", "stsb", "--json", out]
    run("--model", small_preset, "--truncate-dim", 3, *flags)
    pairs = sts.load_task(data, "STSBenchmark", "test")
    encode = raw_encoder(small_preset)
    scores = sts.evaluate_pairs(lambda s: encode(s)[:, :3], {"STSBenchmark": pairs})
    assert json.loads(out.read_text()) == pytest.approx(scores)
    with pytest.raises(UserError, match="expected 1 to 16 dimensions, .* received 17"):
        run("--model", small_preset, "--truncate-dim", 17, *flags)


@pytest.mark.slow
def test_sts_and_transfer_tasks_of_two_models_in_one_run(
    small_preset, tmp_path, capsys
):
    data = write_tasks(tmp_path / "data")
    other = make_preset(tmp_path / "other", layers=1)
    out, details = tmp_path / "out.json", tmp_path / "new" / "details.json"
    run(
        *("--model", small_preset, "--compare", other, "--pooling", "avg"),
        *("--data", data, "--tasks", "cr,stsb", "--fast"),
        *("--json", out, "--details", details),
    )
    printed = capsys.readouterr().out

    pairs = sts.load_tasks(data, ["STSBenchmark"])
    expected = []
    for preset in (small_preset, other):
        encode = raw_encoder(preset)
        result = transfer.evaluate_transfer(encode, data, ["CR"], folds=5)
        scores = sts.evaluate_pairs(encode, pairs) | transfer.scores(result)
        expected.append((sts.similarities(encode, pairs), scores))
    (one, scores), (two, other_scores) = expected

    found = json.loads(out.read_text())
    assert list(found) == ["STSBenchmark", "avg", "CR", "transfer_avg"]
    # With so few sentences the last bit of an embedding decides what a classifier
    # makes of one or two of them; and batches are of other sentences here.
    classified = {"CR": found["CR"], "transfer_avg": found["CR"]}
    assert found["CR"] == pytest.approx(scores["CR"], abs=5)
    assert found == pytest.approx(scores | classified, abs=1e-3)

    whole = json.loads(details.read_text())
    assert [model["model"] for model in whole["models"]] == [
        str(small_preset),
        str(other),
    ]
    assert whole["models"][0]["scores"] == found
    other_found = whole["models"][1]["scores"]
    assert other_found["CR"] == pytest.approx(other_scores["CR"], abs=5)
    assert other_found["STSBenchmark"] == pytest.approx(
        other_scores["STSBenchmark"], abs=1e-3
    )
    low, high = whole["models"][0]["intervals"]["STSBenchmark"]
    assert [low, high] == pytest.approx(
        significance.intervals(one, pairs)["STSBenchmark"], abs=1e-3
    )
    assert whole["models"][0]["sts"]["STSBenchmark"]["pairs"] == 20
    difference = significance.comparisons(one, two, pairs)["STSBenchmark"]
    assert whole["differences"]["STSBenchmark"] == pytest.approx(
        difference._asdict(), abs=1e-3
    )
    assert set(whole["models"][0]["transfer"]["CR"]["seconds"]) == (
        {"encoding", "fitting"}
    )

    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["STS-B", "Avg."]
    score = f"{scores['STSBenchmark']:.2f}"
    assert lines[1] == [str(small_preset), score, score]
    assert lines[2] == ["95%", "from", *[f"{low:.2f}"] * 2]
    assert [f"{difference.difference:.2f}"] * 2 == lines[7][1:]
    assert lines[10] == ["p", *[f"{difference.p_value:.3f}"] * 2]
    assert lines[11] == ["CR", "Avg."]
    assert lines[15] == ["CR", "Total"]


@pytest.mark.slow
def test_own_data_of_two_models_in_one_run(small_preset, tmp_path, capsys):
    pairs = itertools.combinations(SENTENCES, 2)
    rows = [f"{a},{b},{i % 5}" for i, (a, b) in enumerate(pairs)]
    mine, tri = tmp_path / "dev.csv", tmp_path / "tri.jsonl"
    mine.write_text("\n".join(["sentence1,sentence2,score", *rows, "a,b,"]))
    names = ("anchor", "positive", "negative")
    triplets = [dict(zip(names, SENTENCES[i : i + 3], strict=True)) for i in range(6)]
    tri.write_text("\n".join(map(json.dumps, triplets)))
    out, details = tmp_path / "out.json", tmp_path / "details.json"
    run(
        *("--model", small_preset, "--compare", small_preset),
        *("--data", f"mine={mine}", tri, "--json", out, "--details", details),
    )
    scores = json.loads(out.read_text())
    assert list(scores) == ["mine", "tri", "own_avg", "avg"]
    assert scores["avg"] == pytest.approx((scores["mine"] + scores["tri"]) / 2)
    whole = json.loads(details.read_text())
    own = whole["models"][0]["own"]
    assert own["mine"]["pairs"] == 28
    assert own["mine"]["spearman"]["all"] == pytest.approx(scores["mine"])
    assert own["tri"] == {"triplets": 6, "accuracy": pytest.approx(scores["tri"])}
    low, high = whole["models"][0]["intervals"]["tri"]
    assert low <= scores["tri"] <= high
    assert whole["differences"]["mine"]["difference"] == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:]] == ["mine", "tri", "Avg."]
    assert f"{scores['tri']:.2f} ({low:.2f} to {high:.2f})" in printed[2]


@pytest.mark.slow
def test_transfer_tasks_alone_and_their_dev_accuracy(small_preset, tmp_path, capsys):
    data = write_tasks(tmp_path / "data")
    out = tmp_path / "out.json"
    run(
        *("--model", small_preset, "--pooling", "avg", "--data", data),
        *("--tasks", "CR", "--split", "dev", "--fast", "--json", out),
    )
    printed = capsys.readouterr().out
    encode = raw_encoder(small_preset)
    [result] = transfer.evaluate_transfer(encode, data, ["CR"], folds=5).values()
    found = json.loads(out.read_text())
    assert list(found) == ["CR", "transfer_avg", "avg"]
    for value in found.values():
        assert value == pytest.approx(100 * result.dev_accuracy, abs=1e-3)
    assert result.dev_accuracy != result.accuracy
    assert f"{100 * result.dev_accuracy:.2f}" in printed


def test_metric_and_aggregation(data_dir, small_preset, tmp_path):
    out = tmp_path / "out.json"
    run(
        *("--model", small_preset, "--pooling", "avg"),
        *("--data", data_dir / "senteval", "--tasks", "STS13", "--json", out),
        *("--metric", "pearson", "--aggregation", "wmean"),
    )
    pairs = sts.load_tasks(data_dir / "senteval", ["STS13"])
    [similarity] = sts.similarities(raw_encoder(small_preset), pairs).values()
    expected = sts.score(similarity, pairs["STS13"], "pearson", "wmean")
    assert json.loads(out.read_text())["STS13"] == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def small_data(tmp_path):
    """Two pairs of STS-B."""
    directory = tmp_path / "STS" / "STSBenchmark"
    directory.mkdir(parents=True)
    rows = [f"g\tf\ty\t1\t{score}\ta b\tc d\n" for score in (2.5, 3.5)]
    (directory / "sts-test.csv").write_text("".join(rows))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "STS12"], "STS12: .* does not exist"),
        (["--tasks", "STS12", "--split", "dev"], "STS12 has only a test split"),
        (["--pooling", "median"], "--pooling: .*must be one of cls, .*'median'"),
        (["--model", "nowhere"], "no model 'nowhere'"),
        (["--compare", "nowhere"], "no model 'nowhere'"),
        (["--tasks", "sts,transfr"], "'transfr': did you mean 'transfer'"),
        (["--tasks", "STS-B,MR"], "MR: .*rt-polarity.pos does not exist"),
        (["--metric", "kendall"], "--metric: invalid choice"),
        (["--json", "."], "--json: cannot write .: it is a directory"),
        (["--details", f"{__file__}/x"], "--details: .* is not a writable directory"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_printed(
    small_data, small_preset, capsys, arguments, message
):
    model = ["--model", str(small_preset), "--data", str(small_data)]
    with pytest.raises((UserError, SystemExit)) as raised:
        main([*model, "--tasks", "STS-B", *arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    if raised.type is SystemExit:
        assert raised.value.code == 2
    lines = (printed.err or str(raised.value)).splitlines()
    # The first of two models is read before the second is found to be wrong.
    lines = [line for line in lines if " read as: " not in line] or [str(raised.value)]
    assert len(lines) == 1, lines
    assert re.search(message, lines[0]), lines


def test_a_mistake_is_exit_code_2(small_data):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "simcse_tf.evaluate", "--model", MINILM),
            *("--data", str(small_data), "--tasks", "STS17"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert re.search("unknown task 'STS17'", line), line
