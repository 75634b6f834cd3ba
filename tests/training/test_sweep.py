import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.forked import start_script
from support.models import ROOT, make_workspace
from support.runs import state_of, write_run

from simcse_tf import train
from simcse_tf.core.errors import Stopped, UserError
from simcse_tf.sweep import main
from simcse_tf.training import sweep, sweep_plan
from simcse_tf.training.config import load_config, parse_config
from simcse_tf.training.progress import Progress, save_state
from simcse_tf.training.sweep_summary import format_table, write_summary


@pytest.fixture
def workspace(tmp_path, tiny_preset):
    return make_workspace(tmp_path, tiny_preset)


def write_grid(workspace, grid):
    (workspace / "grid.json").write_text(json.dumps(grid))
    return str(workspace / "grid.json")


def arguments(*overrides, seeds=2):
    return [
        "--config", "config.json", "--grid", "grid.json", "--seeds", str(seeds),
        "--set", "training.max_steps=2", "output_dir=sweep", *overrides,
    ]  # fmt: skip


def start(workspace, *overrides):
    return subprocess.Popen(
        [sys.executable, "-m", "simcse_tf.sweep", *arguments(*overrides)],
        cwd=workspace, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_table_shows_the_score_that_chose_the_best_model(tmp_path):
    values = {
        "model": {"preset": "p"},
        "data": {"train": "t.txt", "evaluation": "dev.csv"},
        "evaluation": {"select": "faq:mrr@10"},
        "output_dir": "run",
    }
    run = write_run(tmp_path / "run", parse_config(values))
    scores = {"step": 3, "faq:mrr@10": 60.5, "mine": 50.0, "avg": 55.0}
    (run.best / "dev.json").write_text(json.dumps(scores))
    found = sweep._scores(run)
    assert found == {"faq:mrr@10 dev": 60.5, "avg dev": 55.0, "avg test": 69.5}
    table = format_table({"base": {k: [v] for k, v in found.items()}})
    header = table.splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[2:-1]] == list(found)


def test_a_grid_is_every_combination_of_each_of_its_objects(tmp_path):
    grid = [
        {},
        {"model.dropout": [0.0, 0.1], "training.batch_size": [64, 128]},
        {"data.augmentation": "crop"},
    ]
    settings = sweep_plan.read_grid(write_grid(tmp_path, grid))
    assert sweep_plan.names_of(settings) == [
        "base",
        "dropout=0.0, batch_size=64",
        "dropout=0.0, batch_size=128",
        "dropout=0.1, batch_size=64",
        "dropout=0.1, batch_size=128",
        "augmentation=crop",
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "expected an object of config keys to lists of values"),
        (["model.dropout"], "expected an object of config keys"),
        ([{}, {"a.b": [1, 2]}, {"a.b": 2}], "b=2 is there twice"),
        ({"model.dropout": []}, "model.dropout: expected one value or more, .*\\[\\]"),
        ({"training.seed": [1, 2]}, "training.seed is not for a grid: .* --seeds"),
        ({"data.seed": 1}, "data.seed is not for a grid"),
        ({"output_dir": ["a", "b"]}, "output_dir is not for a grid"),
        ({"training": [{"seed": 1}]}, 'expected keys such as model.dropout, .*"traini'),
        ({f"a.{i}": list(range(10)) for i in range(9)}, "at most 1000 settings"),
    ],
)
def test_a_grid_of_another_form_is_told(tmp_path, grid, message):
    with pytest.raises(UserError, match=message):
        sweep_plan.read_grid(write_grid(tmp_path, grid))


def test_settings_that_look_alike_have_names_and_directories_of_their_own(workspace):
    settings = [
        {"model.preset": "a/b"},
        {"model.preset": "a_b"},
        {"model.preset": "x" * 300},
        {"data.augmentation_model": None},
        {"data.augmentation_model": "null"},
        {"training.tpu": None},
        {"training.tpu": "local", "training.strategy": "tpu"},
    ]
    names = sweep_plan.names_of(settings)
    assert len(set(names)) == len(settings)
    assert names[:2] == ["preset=a/b", "preset=a_b"]
    assert names[3:5] == [
        '"data.augmentation_model": null',
        '"data.augmentation_model": "null"',
    ]
    base = str(workspace / "config.json")
    runs = sweep_plan.plan(base, settings, 1)
    directories = [run.directory.path.parent.name for run in runs]
    assert len(set(directories)) == len(settings)
    assert max(map(len, directories)) < 200
    # A directory is that of its setting, whatever else is in the grid.
    again = sweep_plan.plan(base, settings[::-1], 1)
    assert [run.directory.path.parent.name for run in again] == directories[::-1]


def test_more_runs_than_anybody_waits_for_are_refused(workspace):
    with pytest.raises(UserError, match="--seeds: expected at most 1000 runs, .* 501"):
        base = str(workspace / "config.json")
        sweep_plan.plan(base, [{}, {"model.dropout": 0.0}], 501)


def test_every_setting_gets_the_same_seeds_and_a_directory_of_its_own(workspace):
    settings = [{}, {"model.dropout": 0.0}]
    base = str(workspace / "config.json")
    runs = sweep_plan.plan(base, settings, 3, ["data.seed=7", "output_dir=o"])
    assert [(r.config.training.seed, r.config.data.seed) for r in runs] == [
        (42, 7), (43, 8), (44, 9),
    ] * 2  # fmt: skip
    assert [r.config.model.dropout for r in runs] == [0.1] * 3 + [0.0] * 3
    assert len({r.directory.path for r in runs}) == 6
    assert str(runs[3].directory.path) == "o/dropout=0.0/seed-42"


def test_runs_of_an_older_version_go_on_as_they_began(workspace):
    base, overrides = str(workspace / "config.json"), [f"output_dir={workspace}/o"]
    old, new = sweep_plan.plan(base, [{}], 2, overrides)
    begun = json.loads(old.config.to_json())
    del begun["objective"]["mask_duplicates"]
    old.directory.path.mkdir(parents=True)
    old.directory.config_file.write_text(json.dumps(begun))
    again = sweep_plan.plan(base, [{}], 2, overrides)
    assert [run.config.objective.mask_duplicates for run in again] == [False, True]
    assert again[1] == new


def test_the_table_is_mean_and_sample_deviation_over_seeds():
    table = {
        "base": {"STSBenchmark dev": [80.0, 82.0, 81.5], "avg dev": [70.0] * 3},
        "one | two": {"STSBenchmark dev": [3.0, 4.0, 5.0], "avg dev": [1.0, 2.0, 6.0]},
    }
    lines = format_table(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["setting", "STSBenchmark dev", "avg dev"]
    deviation = statistics.stdev([80.0, 82.0, 81.5])
    assert cells[2] == ["base", f"81.17 ± {deviation:.2f}", "70.00 ± 0.00"]
    assert lines[3].startswith(r"| one \| two |")
    assert "4.00 ± 1.00" in lines[3]
    assert "±" not in format_table({"x": {"avg dev": [1.0]}})


def test_a_score_that_a_setting_does_not_have_is_a_dash(tmp_path):
    table = {
        "tested": {"avg dev": [70.0], "avg test": [60.0]},
        "preset=$\\frac{x}$\n\x1b[2J": {"avg dev": [71.0]},
    }
    *_, line = format_table(table).splitlines()
    assert line == r"| preset=$\frac{x}$ \x1b[2J |   71.00 |        – |"
    write_summary(tmp_path, table)
    assert (tmp_path / "sweep.svg").is_file()


class InThisProcess:
    """Stands in for the process of a run, whose start takes longer than the run."""

    returncode = 0

    def __init__(self, command, **options):
        assert command[:3] == [sys.executable, "-m", "simcse_tf.train"]
        train.main(command[3:])

    def poll(self):
        return self.returncode

    def terminate(self):
        pass

    def wait(self):
        pass


# A sweep whose runs are forks: they have imported TensorFlow already.
FORKING = """
import os, sys
from simcse_tf import sweep as command, train
from simcse_tf.core import cli
from simcse_tf.training import sweep

class Fork:
    returncode = None

    def __init__(self, command, stdout, stderr, preexec_fn):
        assert command[:3] == [sys.executable, "-m", "simcse_tf.train"]
        self.pid = os.fork()
        if not self.pid:
            preexec_fn()
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            sys.argv = command[2:]
            cli.run(train.main)

    def poll(self, options=os.WNOHANG):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def terminate(self):
        if self.returncode is None:
            os.kill(self.pid, 15)

    def wait(self):
        return self.poll(0)

sweep.subprocess.Popen = Fork
cli.run(command.main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.attack)])
def test_a_sweep_is_stopped_and_resumed_without_training_anything_twice(
    workspace, monkeypatch, capsys, seeds
):
    grid = {"model.dropout": [0.0, 0.1]}
    write_grid(workspace, grid)
    process = start_script(FORKING, *arguments(seeds=seeds), cwd=workspace)
    runs = [
        workspace / "sweep" / f"dropout={rate}" / f"seed-{seed}"
        for rate in grid["model.dropout"]
        for seed in (42, 43)[:seeds]
    ]
    first, second = runs[0] / "result.json", runs[1] / "config.json"
    try:
        deadline = time.monotonic() + 240
        while not second.exists() and time.monotonic() < deadline:
            assert process.returncode is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 75, error
    assert "the same command resumes the sweep" in error
    written = first.stat().st_mtime_ns

    monkeypatch.chdir(workspace)
    monkeypatch.setattr(sweep.subprocess, "Popen", InThisProcess)
    main(arguments(seeds=seeds))
    printed = capsys.readouterr().out
    assert first.stat().st_mtime_ns == written
    scores = {}
    for directory in sorted((workspace / "sweep").glob("*/seed-*")):
        assert len((directory / "metrics.jsonl").read_text().splitlines()) == 2
        dev = json.loads((directory / "best" / "dev.json").read_text())
        scores.setdefault(directory.parent.name, []).append(dev["STSBenchmark"])
    assert list(scores) == ["dropout=0.0", "dropout=0.1"]
    table = json.loads((workspace / "sweep" / "sweep.json").read_text())
    assert {name: row["STSBenchmark dev"] for name, row in table.items()} == scores
    for name, values in scores.items():
        cells = f"{statistics.fmean(values):.2f}"
        if seeds > 1:
            cells += f" ± {statistics.stdev(values):.2f}"
        [line] = [line for line in printed.splitlines() if f"| {name}" in line]
        assert cells in line
    assert (workspace / "sweep" / "sweep.md").read_text().strip() in printed
    for suffix in ("png", "svg"):
        assert (workspace / "sweep" / f"sweep.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("grid", "overrides", "message"),
    [
        ({"model.dropout": [0.1, 2]}, [], r"model.dropout: expected"),
        ({"data.train": ["train.txt", "missing.txt"]}, [], "cannot read missing.txt"),
        ({}, ["data.evaluation=null"], "a sweep compares dev scores"),
    ],
)
def test_a_mistake_in_any_run_is_told_before_the_first_one(
    workspace, monkeypatch, grid, overrides, message
):
    write_grid(workspace, grid)
    monkeypatch.chdir(workspace)
    with pytest.raises(UserError, match=message):
        main(arguments(*overrides))
    assert not (workspace / "sweep").exists()


@pytest.fixture
def finished(workspace, monkeypatch):
    """A sweep of one run that has ended."""
    monkeypatch.chdir(workspace)
    write_grid(workspace, {})
    config = load_config(
        "config.json",
        ["training.max_steps=2", f"output_dir={Path('sweep/base/seed-42')}"],
    )
    run = write_run(Path(config.output_dir), config, steps=2)
    run.path.joinpath("result.json").write_text('{"avg dev": 70.5}')
    return run


def test_a_finished_sweep_is_told_again(finished, capsys):
    main(arguments(seeds=1))
    assert "70.50" in capsys.readouterr().out
    assert not (finished.path.parents[1] / ".lock").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["training.max_steps=4"],
            "training.max_steps was 2 and is 4: .*another sweep",
        ),
        (["training.learning_rate=0.1"], "training.learning_rate was 0.001 and is"),
        (["training.evaluate_every=1"], "training.evaluate_every was 2 and is 1"),
        (["data.train=nowhere.txt"], "data.train was 'train.txt' and is 'nowhere.txt'"),
    ],
)
def test_the_table_of_a_finished_sweep_is_not_that_of_another(
    finished, changes, message
):
    with pytest.raises(UserError, match=message):
        main(arguments(*changes, seeds=1))


def test_what_changes_no_score_may_change_in_a_sweep(finished):
    main(arguments("training.keep=3", "training.checkpoint_every=1", seeds=1))


def test_a_finished_run_without_its_config_or_of_other_data_is_told(finished):
    state = finished.last / "training_state.npz"
    content = state.read_bytes()
    save_state(finished.last, Progress(2, 24), state_of(2))
    with pytest.raises(UserError, match="holds 25 examples, and held 24 examples"):
        main(arguments(seeds=1))
    state.write_bytes(content)
    finished.config_file.unlink()
    with pytest.raises(UserError, match="cannot read .*seed-42/config.json"):
        main(arguments(seeds=1))


def test_two_sweeps_do_not_share_a_directory(finished):
    message = "another sweep or run writes there: .* [(]process [0-9]+ on"
    with sweep.claimed(Path("sweep")), pytest.raises(UserError, match=message):
        main(arguments(seeds=1))


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("exit 75", Stopped, "stopped by SIGTERM: the same command resumes"),
        ("kill -9 $$", UserError, "base, seed 42: killed by SIGKILL"),
        (
            "exit 2",
            UserError,
            r"base, seed 42: error: no \(log: sweep/base/seed-42/tra",
        ),
        ("exit 1", UserError, "base, seed 42: error: no"),
    ],
)
def test_a_run_that_does_not_end_well_ends_the_sweep(
    workspace, monkeypatch, code, error, message
):
    monkeypatch.chdir(workspace)
    write_grid(workspace, {})
    popen = subprocess.Popen

    def ending(command, stdout, **options):
        stdout.write("1/6 \r2/6 \rerror: no\n\n")
        stdout.flush()
        return popen(["sh", "-c", code], stdout=stdout, **options)

    monkeypatch.setattr(sweep.subprocess, "Popen", ending)
    with pytest.raises(error, match=message):
        main(arguments(seeds=1))


ORPHAN = """
import functools, os, subprocess, time
from simcse_tf.training.sweep import _end_with
end_with = functools.partial(_end_with, os.getpid())
print(subprocess.Popen(["sleep", "60"], preexec_fn=end_with).pid, flush=True)
time.sleep(60)
"""


def test_a_run_ends_with_its_sweep_even_if_that_is_killed():
    command = [sys.executable, "-c", ORPHAN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        assert os.path.exists(f"/proc/{child}")
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def is_running(pid):
    try:
        # The state stands after the name, which is in parentheses.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_mistake_is_one_line_and_exit_code_2(workspace):
    write_grid(workspace, {"model.dropuot": [0.1]})
    process = start(workspace)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    [line] = error.splitlines()
    assert re.search("unknown key model.dropuot", line), line
    assert not (workspace / "sweep").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "grids").iterdir()))
def test_the_grids_that_we_ship_fit_the_papers_config(path):
    runs = sweep_plan.plan(
        str(ROOT / "configs" / "unsup.json"), sweep_plan.read_grid(str(path)), seeds=1
    )
    assert len({run.directory.path for run in runs}) == len(runs) > 5
