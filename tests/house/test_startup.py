"""Help and mistakes do not wait for TensorFlow."""

import json
import os
import subprocess
import sys

import pytest
from support.models import ROOT

# Each takes from half a second to several.
SLOW = ["tensorflow", "keras", "keras_hub", "tensorflow_datasets", "scipy", "sklearn"]
SLOW += ["apache_beam"]
COMMANDS = (
    "client",
    "datasets.grammar",
    "demo",
    "encode",
    "evaluate",
    "export",
    "gateway",
    "report",
    "retrieve",
    "index",
    "mine",
    "pipeline",
    "serve",
    "sweep",
    "train",
)
HELP = [(command, "--help") for command in COMMANDS]
TRAIN = ("train", "--config", "config.json")
EMBED = ("pipeline", "embed", "--saved-model", "x", "--input", "no", "--output", "o")
EVALUATE = ("evaluate", "--model", "x", "--data", ".")
MISTAKES = {
    ("client", "--target", "x:1", "frobnicate"): "invalid choice",
    ("datasets.grammar", "--output", "o", "--triplets", "0"): "expected at least 1",
    ("demo", "--index", "no", "--target", "x:1"): "no: expected an index",
    ("demo", "--index", "no"): "expected --target",
    ("encode", "--model", "x", "--input", "no", "--output", "o.npy"): "no: No",
    (*EVALUATE, "--pooling", "sum"): "Received: 'sum'",
    (*EVALUATE, "--tasks", "STS99"): "STS99",
    (*EVALUATE, "--tasks", "STS12"): "STS12",
    ("export", "--model", "x", "--output", "train.txt"): "not a directory",
    ("export", "--check", "run"): "no saved_model.pb",
    ("gateway", "--target", "x:1", "--target_ca", "ca"): "expected --target_tls",
    ("gateway", "--target", "x:1", "--token_file", "no"): "cannot read no: No such",
    ("gateway", "--target", "x:1", "--port", "0"): "--port: expected 1 to 65535",
    (
        "index",
        "build",
        "--index",
        "run",
        "--model",
        "x",
        "--input",
        "train.txt",
    ): "best",
    ("index", "build", "--index", "i", "--model", "x", "--input", "no"): "no: No such",
    ("index", "build", "--index", "i"): "expected --input or --embeddings",
    ("index", "add", "--index", "i", "--input", "train.txt"): "no such directory",
    ("index", "search", "--index", "i", "--k", "0", "x"): "--k: expected 1 or more",
    ("mine", "--model", "x", "--pairs", "no.csv", "--output", "o.csv"): "no.csv: No",
    (*EMBED, "--processes", "0"): "--processes: expected 1 or more",
    ("retrieve", "--model", "x", "--queries", "no", "--corpus", "no"): "no: No such",
    ("serve", "--model_base_path", "no"): "no",
    ("sweep", "--config", "no.json", "--grid", "no.json"): "no.json",
    (*TRAIN, "--set", "training.bach_size=8"): "unknown key training.bach_size",
    (*TRAIN, "--set", "model.pooling=sum"): "model.pooling",
    (*TRAIN, "--set", "data.train=no.txt"): "cannot read no.txt",
    (*TRAIN, "--set", "data.evaluation=no"): "data.evaluation: expected",
    (*TRAIN, "--set", "output_dir=run"): "holds a run's best, but no config.json",
    (*TRAIN, "--resume"): "holds no run",
}
# Runs commands one after another as `python -m` does, in one interpreter, because each
# start takes a second. A slow module counts for the first command that imports it.
RUN = """
import contextlib, io, json, runpy, sys

commands, slow = json.load(sys.stdin)
ends = []
for name, *arguments in commands:
    sys.argv = [name, *arguments]
    out, err, code, before = io.StringIO(), io.StringIO(), None, set(sys.modules)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(f"simcse_tf.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    imported = sorted({*slow} & {*sys.modules} - before)
    ends.append([code, out.getvalue(), err.getvalue(), imported])
json.dump(ends, sys.stdout)
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Exit code, stdout, stderr and slow imports of every command in this module."""
    directory = tmp_path_factory.mktemp("startup")
    (directory / "train.txt").write_text("one\ntwo\nthree\n")
    (directory / "run" / "best").mkdir(parents=True)
    (directory / "STS").mkdir()
    config = {"data": {"train": "train.txt"}, "model": {"preset": "x"}}
    config |= {"output_dir": "new", "training": {"batch_size": 2}}
    (directory / "config.json").write_text(json.dumps(config))
    commands = [*HELP, *MISTAKES]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps([commands, SLOW]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(directory)) == ["STS", "config.json", "run", "train.txt"]
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("command", HELP, ids=COMMANDS)
def test_help_imports_nothing_slow(ends, command):
    code, out, err, imported = ends[command]
    assert code == 0, err
    assert "usage: " in out
    assert imported == []


def test_every_command_is_among_them():
    modules = (ROOT / "simcse_tf").rglob("*.py")
    with_main = {
        ".".join(path.relative_to(ROOT / "simcse_tf").with_suffix("").parts)
        for path in modules
        if '\nif __name__ == "__main__"' in path.read_text()
    }
    assert {name.removesuffix(".__main__") for name in with_main} == {*COMMANDS}


@pytest.mark.parametrize(("command", "message"), MISTAKES.items())
def test_a_mistake_is_reported_before_anything_slow_is_imported(ends, command, message):
    code, _, err, imported = ends[command]
    assert code == 2, err
    [line] = err.splitlines()
    assert message in line
    assert imported == []
