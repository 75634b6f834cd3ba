"""A worker that is killed: the same command ends as if none had been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.embedding_shards import unit_rows, write_shards

from simcse_tf.indexing.index import Index

pytestmark = pytest.mark.attack
STOPPED = 75


def _start(*flags):
    return subprocess.Popen(
        [sys.executable, "-m", "simcse_tf.pipeline", *flags, "--processes", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _workers(parent):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "stat").read_text().rpartition(")")[2].split()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if int(about[1]) == parent and b"simcse_tf.pipelines.worker" in command:
            found.append(int(process.name))
    return found


def _kill_a_worker(process, delay):
    """Kills one some seconds after the first was there. Whether the run noticed."""
    while not (workers := _workers(process.pid)) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(delay)
    for worker in (_workers(process.pid) or workers)[:1]:
        if process.poll() is None:
            os.kill(worker, signal.SIGKILL)
    _, told = process.communicate(timeout=300)
    assert "Traceback" not in told
    assert process.returncode in (0, STOPPED), told
    return process.returncode == STOPPED


def _content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_dedup(tmp_path):
    texts = [f"text {n % 2500}" for n in range(3000)]
    pattern = write_shards(
        tmp_path / "e", texts, unit_rows(3000)[np.arange(3000) % 2000], 6, row_group=500
    )
    whole = tmp_path / "whole"
    assert _start("dedup", "--input", pattern, "--output", str(whole)).wait(300) == 0
    killed = 0
    for number, delay in enumerate((0.5, 3, 6, 9)):
        flags = ["dedup", "--input", pattern, "--output", str(tmp_path / f"{number}")]
        if _kill_a_worker(_start(*flags), delay):
            killed += 1
            assert not (tmp_path / f"{number}" / "summary.json").exists()
            assert _start(*flags).wait(300) == 0
        assert _content(tmp_path / f"{number}") == _content(whole)
    assert killed > 1


def test_index(tmp_path):
    vectors = unit_rows(3000)
    pattern = write_shards(tmp_path / "e", None, vectors, 6, row_group=500)
    killed = 0
    for number, delay in enumerate((0.5, 3, 6)):
        target = tmp_path / f"{number}.index"
        flags = ["index", "--embeddings", pattern, "--index", str(target)]
        if _kill_a_worker(_start(*flags), delay):
            killed += 1
            assert not target.exists()
            assert _start(*flags).wait(300) == 0
        index = Index.open(target)
        np.testing.assert_array_equal(index.vectors(np.arange(3000)), vectors)
        assert [path.name for path in tmp_path.glob(f"{number}.*")] == [target.name]
    assert killed
