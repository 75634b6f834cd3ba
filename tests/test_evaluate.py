import json
import re
import subprocess
import sys

import pytest
from conftest import MINILM, ROOT

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
    return subprocess.run(
        [sys.executable, "-m", "simcse_tf.evaluate", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_minilm_scores_on_all_seven_tasks_as_published(data_dir, tmp_path):
    out = tmp_path / "out.json"
    done = run(
        *("--model", MINILM, "--pooling", "avg"),
        *("--data", data_dir / "senteval", "--json", out),
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(out.read_text())
    assert list(scores) == [*PUBLISHED, "avg"]
    for task, published in PUBLISHED.items():
        assert scores[task] == pytest.approx(published, abs=0.02), task
    mean = sum(scores[task] for task in PUBLISHED) / 7
    assert scores["avg"] == pytest.approx(mean, abs=1e-9)
    assert f"{scores['avg']:.2f}" in done.stdout


def test_dev_split_and_task_names(data_dir, small_preset, tmp_path):
    out = tmp_path / "out.json"
    done = run(
        *("--model", small_preset, "--data", data_dir / "senteval"),
        *("--tasks", "sick-r", "--split", "dev", "--json", out),
    )
    assert done.returncode == 0, done.stderr
    assert list(json.loads(out.read_text())) == ["SICKRelatedness", "avg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "STS17"], "unknown task 'STS17'"),
        (["--tasks", "STS12"], "STS12: .* does not exist"),
        (["--tasks", "STS12", "--split", "dev"], "STS12 has only a test split"),
        (["--pooling", "max"], "--pooling: invalid choice"),
        (["--model", "nowhere"], "no model 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    sts = tmp_path / "STS" / "STSBenchmark"
    sts.mkdir(parents=True)
    (sts / "sts-test.csv").write_text("g\tf\ty\t1\t2.5\ta b\tc d\n" * 2)
    arguments = ["--tasks", "STS-B", *arguments]
    done = run("--model", MINILM, "--data", tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert re.search(message, line), line
