"""Two worker processes over loopback; `docs/distributed.md` says what they promise."""

import json
import re
import signal
import socket
import time

import numpy as np
import pytest
from support.forked import start_script
from support.models import make_workspace
from support.runs import metrics

from simcse_tf import SimCSE
from simcse_tf.core.errors import PeerLost, UserError
from simcse_tf.distributed import cluster
from simcse_tf.distributed.collectives import any_worker, every_worker
from simcse_tf.distributed.strategy import is_chief, strategy_of

# `simcse_tf.train`, which also keeps this process's weights, and sends itself a signal
# after a step if it is told to.
DRIVER = """
import os
import numpy as np
from simcse_tf import train
from simcse_tf.training import callbacks, evaluation, run
from simcse_tf.core import cli

count, fit = callbacks.StepClock.on_train_batch_end, run.fit
step, signal = map(int, os.environ.get("STEP_AND_SIGNAL", "0 0").split())

def count_and_kill(self, batch, logs=None):
    count(self, batch, logs)
    if self.progress.step == step:
        os.kill(os.getpid(), signal)

def kept_fit(model, *args):
    fit(model, *args)
    np.savez(os.environ["WEIGHTS"], *model.get_weights())

if "BROKEN_ENCODER" in os.environ:
    # Only the chief evaluates.
    nan = lambda texts: np.full((len(texts), 4), np.nan)
    evaluation._encoder = lambda model, progress: nan
run.fit = kept_fit
callbacks.StepClock.on_train_batch_end = count_and_kill
cli.run(train.main)
"""
OVERRIDES = ("model.dropout=0.0", "training.evaluate_every=3")
# Seconds that a loaded machine may take.
LIMIT = 150


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tf_config(ports, index):
    workers = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    )


def start(workspace, name, *arguments, **environment):
    environment["WEIGHTS"] = str(workspace / f"{name}.npz")
    return start_script(
        DRIVER, "--config", "config.json", *arguments, cwd=workspace, **environment
    )


def start_two(workspace, name, *flags, step_and_signal=None, **environment):
    """Both workers; the second sends itself the signal after the step."""
    ports = free_ports(2)
    overrides = [*OVERRIDES, f"output_dir={name}", "training.strategy=multi_worker"]
    return [
        start(
            workspace,
            f"{name}-{index}",
            *("--set", *overrides, *flags),
            TF_CONFIG=tf_config(ports, index),
            **environment,
            **(
                {"STEP_AND_SIGNAL": step_and_signal}
                if index and step_and_signal
                else {}
            ),
        )
        for index in range(2)
    ]


def finish(processes):
    """The processes' stdouts; each must succeed."""
    try:
        ends = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, stderr) in zip(processes, ends, strict=True):
        assert process.returncode == 0, stderr
    return [stdout for stdout, _ in ends]


def weights(workspace, name):
    saved = np.load(workspace / f"{name}.npz")
    return [saved[key] for key in saved.files]


def assert_same_run(workspace, name, other):
    for key in ("loss", "learning_rate", "dev_STSBenchmark"):
        values, expected = (
            [line[key] for line in metrics(workspace / run) if key in line]
            for run in (name, other)
        )
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_preset):
    """A workspace with the run `one` of one process on the global batch."""
    workspace = make_workspace(tmp_path_factory.mktemp("cluster"), tiny_preset)
    finish([start(workspace, "one", "--set", *OVERRIDES, "output_dir=one")])
    return workspace


def assert_the_run_of_one_process(workspace, name, printed):
    chief, other = printed
    assert_weights_of_one_process(workspace, name)
    assert_same_run(workspace, name, "one")
    assert "6 in all" in chief
    assert "STS-B" in chief
    assert other == ""
    assert SimCSE.from_preset(str(workspace / name / "best")).max_length == 32


def assert_weights_of_one_process(workspace, name):
    chief, other = (weights(workspace, f"{name}-{index}") for index in range(2))
    differences = []
    for one, a, b in zip(weights(workspace, "one"), chief, other, strict=True):
        np.testing.assert_array_equal(a, b)
        differences.append(np.abs(a - one).ravel())
    # Of a gradient that is nearly 0, Adam may make a step either way.
    difference = np.concatenate(differences)
    assert (difference > 1e-4).mean() < 1e-3
    assert difference.max() < 1e-3


@pytest.mark.attack
def test_two_workers_give_the_run_of_one_process(workspace):
    """As those do below that were stopped on their way."""
    assert_the_run_of_one_process(workspace, "two", finish(start_two(workspace, "two")))


@pytest.mark.slow
def test_workers_end_together_where_one_alone_finds_that_the_run_diverged(workspace):
    """Of the losses and the weights all of them know; of the dev scores the chief."""
    reasons = "embeddings, row 1: expected finite .*", "another worker's line says why"
    processes = start_two(workspace, "nan", BROKEN_ENCODER="1")
    for process, reason in zip(processes, reasons, strict=True):
        _, stderr = process.communicate(timeout=LIMIT)
        assert process.returncode == 77, stderr
        line = stderr.splitlines()[-1]
        assert re.match(f"error: diverged at step 3: {reason}", line), line
    assert metrics(workspace / "nan")[-1]["step"] == 3
    assert not (workspace / "nan" / "best").exists()


@pytest.mark.attack
def test_workers_end_together_where_the_chief_runs_out_of_patience(workspace):
    flags = ["evaluation.patience=2", "training.learning_rate=1e-12"]
    for again in ([], ["--resume"]):
        chief, other = finish(
            start_two(workspace, "early", *flags, "training.evaluate_every=1", *again)
        )
        assert "ended early, after step 3: no better dev score in the last 2" in chief
        assert other == ""
        assert len(metrics(workspace / "early")) == 3


@pytest.mark.slow
def test_stopped_and_lost_workers_end_together_and_go_on_with_resume(workspace):
    for process in start_two(workspace, "cut", step_and_signal="3 15"):
        _, stderr = process.communicate(timeout=LIMIT)
        assert process.returncode == 75, stderr
        assert stderr.endswith(
            "stopped by SIGTERM after step 3: pass --resume to resume\n"
        )

    chief, victim = start_two(workspace, "cut", "--resume", step_and_signal="5 9")
    assert victim.wait(LIMIT) == -signal.SIGKILL
    died = time.monotonic()
    _, stderr = chief.communicate(timeout=LIMIT)
    assert time.monotonic() - died < 30
    assert chief.returncode == 76, stderr
    assert re.search(
        r"\nerror: lost worker\(s\) of the cluster .*--resume$", stderr[:-1]
    )
    assert "Traceback" not in stderr

    printed = finish(start_two(workspace, "cut", "--resume"))
    assert "resuming after step 4" in printed[0]
    assert_the_run_of_one_process(workspace, "cut", printed)


def test_a_worker_that_never_joins_is_named(monkeypatch):
    ports = free_ports(2)
    monkeypatch.setenv("TF_CONFIG", tf_config(ports, 0))
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 0.5)
    with pytest.raises(PeerLost, match=rf"worker 1 .*127\.0\.0\.1:{ports[1]}.*joined"):
        strategy_of("multi_worker")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"cluster": {"worker": ["localhost:1"]}}',
        tf_config([1], 0).replace("[", "").replace("]", ""),
        tf_config([1], 0).replace(":1", ""),
        tf_config([1, 2], 2),
        tf_config([1, 2], -1),
        tf_config([1, 1], 0),
        tf_config([1, 2], 0).replace("worker", "ps"),
    ],
)
def test_a_wrong_tf_config_is_shown_with_a_right_one(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=r'TF_CONFIG to be like \{"cluster".*received'):
        strategy_of("multi_worker")


def test_a_port_in_use_is_named(monkeypatch):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("TF_CONFIG", tf_config([port, *free_ports(1)], 0))
        with pytest.raises(UserError, match=rf"cannot listen on port {port}"):
            strategy_of("multi_worker")


def test_one_process_is_its_own_chief_and_only_worker():
    strategy_of("none")
    assert is_chief()
    assert any_worker(True)
    assert not any_worker(False)
    assert every_worker(3) == [3]


def test_a_tpu_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"training\.tpu: cannot use TPU 'local'"):
        strategy_of("tpu", "local")
