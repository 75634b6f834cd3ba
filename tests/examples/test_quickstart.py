import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest
from support.forked import run_command, start_command
from support.models import ROOT

SCRIPT = ROOT / "examples" / "quickstart.py"
CONFIG = "configs/quickstart.json"


class Forks:
    """What the script takes of `subprocess`: its commands as forks, here in a test."""

    @staticmethod
    def run(command, check):
        done = run_command(command[2], *command[3:], cwd=os.getcwd())
        print(done.stdout, end="")
        print(done.stderr, end="", file=sys.stderr)
        return done

    @staticmethod
    def Popen(command):
        return Served(start_command(command[2], *command[3:], cwd=os.getcwd()))


class Served:
    """A process that ends with a `with` statement."""

    def __init__(self, process):
        self.terminate, self.wait = process.terminate, process.wait
        self._kill = process.kill

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._kill()


def quickstart(directory):
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def write_config(directory, **model):
    """The quickstart's, with two training steps in place of an epoch."""
    config = json.loads((ROOT / CONFIG).read_text())
    config["training"]["max_steps"] = 2
    config["model"] |= model
    (directory / "configs").mkdir()
    (directory / CONFIG).write_text(json.dumps(config))


def assert_went_all_the_way(printed, directory):
    commands = re.findall(r"^\$ python -m simcse_tf\.(\S+)", printed, re.M)
    assert commands == [
        "datasets.grammar", "evaluate", "train", "export", "serve", "client",
    ]  # fmt: skip
    cosines = re.findall(r"^(-?\d\.\d+)\tMore than ten", printed, re.M)
    assert len(cosines) == 3
    assert all(-1 <= float(cosine) <= 1 for cosine in cosines)
    assert "the server has stopped" in printed
    run = directory / "runs" / "quickstart"
    assert sorted(os.listdir(run)) == ["data", "export", "run"]


@pytest.mark.slow
def test_the_quickstart_goes_from_data_to_grpc_answers(
    tmp_path, monkeypatch, capsys, tiny_preset
):
    """Every command of it, for a small model."""
    write_config(tmp_path, preset=str(tiny_preset))
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.MODEL, script.subprocess = str(tiny_preset), Forks
    script.main([])
    assert_went_all_the_way(capsys.readouterr().out, tmp_path)


@pytest.mark.attack
def test_the_quickstart_goes_all_the_way_as_a_user_starts_it(tmp_path):
    """With real weights, each command in a process of its own."""
    write_config(tmp_path)
    done = quickstart(tmp_path)
    assert done.returncode == 0, done.stderr
    assert_went_all_the_way(done.stdout, tmp_path)


def test_elsewhere_than_in_the_project_it_reports_that(tmp_path):
    done = quickstart(tmp_path)
    assert done.returncode == 2
    assert "run this from the project's root" in done.stderr
    assert os.listdir(tmp_path) == []
