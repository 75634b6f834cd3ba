"""Commands are given pipes, devices, their own inputs and impossible names."""

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.models import make_workspace

from simcse_tf import encode, evaluate, retrieve, sweep, train
from simcse_tf.client import __main__ as client
from simcse_tf.core.errors import UserError
from simcse_tf.reporting import build

# What `{}` stands for is the file that is wrong.
READERS = {
    "encode --input": (encode, "--model M --input {} --output out"),
    "retrieve --queries": (retrieve, "--model M --queries {} --corpus train.txt"),
    "retrieve --corpus": (retrieve, "--model M --queries train.txt --corpus {}"),
    "evaluate --data": (evaluate, "--model M --data {dir} --tasks STS-B"),
    "train --config": (train, "--config {}"),
    "train data.train": (train, "--config config.json --set data.train={}"),
    "sweep --config": (sweep, "--config {} --grid grid.json"),
    "sweep --grid": (sweep, "--config config.json --grid {}"),
    "client --input": (client, "--target localhost:1 encode --input {} --output out"),
}
WRITERS = {
    "encode --output": (encode, "--model M --input train.txt --output {}"),
    "retrieve --output": (
        retrieve,
        "--model M --queries train.txt --corpus other.txt --output {}",
    ),
    "evaluate --json": (evaluate, "--model M --data senteval --json {}"),
    "evaluate --details": (evaluate, "--model M --data senteval --details {}"),
    "client --output": (
        client,
        "--target localhost:1 encode --input train.txt --output {}",
    ),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command, which must end with one line, before it has read a model."""
    make_workspace(tmp_path, "M")
    (tmp_path / "M").mkdir()
    (tmp_path / "M/weights").write_text("weights")
    (tmp_path / "grid.json").write_text("{}")
    (tmp_path / "other.txt").write_text("one\n")
    monkeypatch.chdir(tmp_path)

    def run(command, arguments, wrong):
        words = [word.replace("{}", wrong) for word in arguments.split()]
        before = snapshot(tmp_path)
        signal.alarm(30)
        with pytest.raises(UserError) as error:
            command.main(words)
        signal.alarm(0)
        assert snapshot(tmp_path) == before
        message = str(error.value)
        assert "\n" not in message
        assert len(message) < 1000
        return message

    return run


def snapshot(path):
    return {
        file: (file.lstat().st_mode, file.read_bytes() if file.is_file() else None)
        for file in path.rglob("*")
    }


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_refused_where_a_file_is_read(run, reader, tmp_path):
    command, arguments = READERS[reader]
    name = (
        "senteval/STS/STSBenchmark/sts-test.csv" if "{dir}" in arguments else "pipe.txt"
    )
    Path(name).unlink(missing_ok=True)
    os.mkfifo(name)
    message = run(command, arguments.replace("{dir}", "senteval"), "pipe.txt")
    assert re.search(r"a pipe|regular file|no file|expected a file", message)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "wrong",
    ["train.txt", "link", "pipe", "M", "/dev/null", "/dev/stdin", "a\0b", "x" * 256],
)
def test_what_is_no_output_is_refused(run, writer, wrong):
    command, arguments = WRITERS[writer]
    if wrong == "train.txt" and "train.txt" not in arguments:
        wrong = "M/weights"
    Path("link").symlink_to("train.txt" if "train.txt" in arguments else "M/weights")
    os.mkfifo("pipe")
    flag = writer.split()[1]
    if wrong == "/dev/stdin" and Path(wrong).is_file():
        pytest.skip("stdin is a file here")
    assert run(command, arguments, wrong).startswith(f"{flag}: cannot write ")


def test_a_report_replaces_no_file_of_its_run(tmp_path, monkeypatch):
    run = SimpleNamespace(model=tmp_path / "run/best", name="run")
    monkeypatch.setattr(build, "_read_run", lambda path: run)
    (tmp_path / "run/best").mkdir(parents=True)
    (tmp_path / "questions.txt").touch()
    (tmp_path / "run/best/config.json").touch()
    (tmp_path / "run/metrics.jsonl").touch()
    for name in ("run/metrics.jsonl", "run/best/config.json", "questions.txt"):
        with pytest.raises(UserError, match="--output: .*, which is read"):
            build.report(
                tmp_path / "run",
                queries=str(tmp_path / "questions.txt"),
                output=tmp_path / name,
            )
