"""Help and mistakes do not wait for TensorFlow."""

import json
import os
import subprocess
import sys

import pytest
from support.models import ROOT

# Each takes from half a second to several.
SLOW = {"tensorflow", "keras", "keras_hub", "tensorflow_datasets", "scipy", "sklearn"}
RUN = (
    "import runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "try:\n"
    "    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    "except SystemExit as end:\n"
    f"    print('\\nimported', sorted({SLOW} & {{*sys.modules}}))\n"
    "    sys.exit(end.code)\n"
)
COMMANDS = (
    "client",
    "datasets.grammar",
    "encode",
    "evaluate",
    "export",
    "quickstart",
    "report",
    "retrieve",
    "serve",
    "sweep",
    "train",
)
TRAIN = ("train", "--config", "config.json")
EVALUATE = ("evaluate", "--model", "x", "--data", ".")


def run(directory, command, *arguments):
    return subprocess.run(
        [sys.executable, "-c", RUN, f"simcse_tf.{command}", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_slow(tmp_path, command):
    done = run(tmp_path, command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout
    assert done.stdout.endswith("\nimported []\n")
    assert os.listdir(tmp_path) == []


def test_every_command_is_among_them():
    modules = (ROOT / "simcse_tf").rglob("*.py")
    with_main = {
        ".".join(path.relative_to(ROOT / "simcse_tf").with_suffix("").parts)
        for path in modules
        if 'if __name__ == "__main__"' in path.read_text()
    }
    assert {name.removesuffix(".__main__") for name in with_main} == {*COMMANDS}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("client", "--target", "x:1", "frobnicate"), "invalid choice"),
        (("encode", "--model", "x", "--input", "no", "--output", "o.npy"), "no: No"),
        ((*EVALUATE, "--pooling", "max"), "invalid choice: 'max'"),
        ((*EVALUATE, "--tasks", "STS99"), "STS99"),
        ((*EVALUATE, "--tasks", "STS12"), "STS12"),
        (("export", "--model", "x", "--output", "train.txt"), "not a directory"),
        (("quickstart", "--fast"), "unrecognized arguments: --fast"),
        (("serve", "--model_base_path", "no"), "no"),
        ((*TRAIN, "--set", "training.bach_size=8"), "unknown key training.bach_size"),
        ((*TRAIN, "--set", "model.pooling=max"), "model.pooling"),
        ((*TRAIN, "--set", "data.train=no.txt"), "cannot read no.txt"),
        ((*TRAIN, "--set", "data.evaluation=no"), "data.evaluation: expected"),
        ((*TRAIN, "--set", "output_dir=run"), "holds a run already"),
        ((*TRAIN, "--resume"), "holds no run to resume"),
    ],
)
def test_a_mistake_is_told_before_anything_slow_is_imported(tmp_path, command, message):
    (tmp_path / "train.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "run" / "best").mkdir(parents=True)
    config = {"data": {"train": "train.txt"}, "model": {"preset": "x"}}
    config |= {"output_dir": "new", "training": {"batch_size": 2}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = run(tmp_path, *command)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert message in line
    assert done.stdout.endswith("\nimported []\n")
