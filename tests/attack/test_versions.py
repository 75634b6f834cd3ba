"""Version directories that are damaged, hostile or change: a good one is served."""

import asyncio
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
from support.servers import export, predict_request, running_server
from tensorflow_serving.apis import model_pb2, prediction_log_pb2

from simcse_tf.client import Client
from simcse_tf.core.contents import contents_of, sha256
from simcse_tf.core.errors import UserError
from simcse_tf.server import descriptions, status_errors, text_config, warmup
from simcse_tf.server import loader as loader_module
from simcse_tf.server.catalog import MOST_ENDED, NOT_LOADED, Catalog, ServedModel
from simcse_tf.server.integrity import check_files
from simcse_tf.server.loader import RETRIES, RETRY_SECONDS, Loader
from simcse_tf.server.model_config import ModelConfig
from simcse_tf.server.servable import Servable
from simcse_tf.server.versions import newest_version, numbered, snapshot, versions

GRAPH = "saved_model.pb"
WEIGHTS = "variables/variables.data-00000-of-00001"


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    monkeypatch.setattr(loader_module, "gc", Mock())


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A version as `export` writes it: with the hashes of its files."""
    version = export(tmp_path_factory.mktemp("good"), 1)
    files = {name: sha256(version / name) for name in contents_of(version).files}
    (version / "manifest.json").write_text(json.dumps({"files": files}))
    return version


class Numbers(tf.Module):
    """Answers each text with its weight, such as NaN."""

    def __init__(self, weight):
        self._weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def encode(self, text):
        return {"embedding": tf.fill([tf.size(text), 4], 1.0) * self._weight}


def record_requests(version, *requests):
    path = version / warmup.REQUESTS_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def answer_nan(version):
    module = Numbers(float("nan"))
    shutil.rmtree(version)
    tf.saved_model.save(module, str(version), {"serving_default": module.encode})
    record_requests(version, predict_request(text=["a"]))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def make_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def ask_for_a_signature_that_is_not_there(version):
    record_requests(version, predict_request("other", text=["a"]))


DAMAGES = {
    "graph cut": lambda it: cut(it / GRAPH),
    "graph with a flipped bit": lambda it: flip(it / GRAPH),
    "no bytes of a graph": lambda it: (it / GRAPH).write_bytes(b""),
    "a pipe for a graph": lambda it: make_pipe(it / GRAPH),
    "a link to itself for a graph": lambda it: (
        (it / GRAPH).unlink(),
        (it / GRAPH).symlink_to(GRAPH),
    ),
    "weights cut": lambda it: cut(it / WEIGHTS),
    "weights with a flipped bit": lambda it: flip(it / WEIGHTS),
    "weights missing": lambda it: shutil.rmtree(it / "variables"),
    "a pipe for weights": lambda it: make_pipe(it / WEIGHTS),
    "a pipe beside the files": lambda it: os.mkfifo(it / "more"),
    "a directory that holds itself": lambda it: (it / "assets" / "a").symlink_to(it),
    "NaN for a warmup request": answer_nan,
    "a wrong warmup request": ask_for_a_signature_that_is_not_there,
    "no warmup request": lambda it: (
        (it / "assets.extra").mkdir(),
        (it / warmup.REQUESTS_FILE).write_bytes(b"no record" * 9),
    ),
    "manifest damaged": lambda it: cut(it / "manifest.json"),
}


def load(version, path):
    servable = Servable(version, path, None, EXECUTOR)
    warmup.replay(servable)
    return servable


EXECUTOR = ThreadPoolExecutor(1)


def loading(base_path, scenario=None, load=load, **config):
    """Starts a loader, runs `scenario(model, loader)`; the model."""

    async def main():
        model = ServedModel("m")
        with ThreadPoolExecutor(1) as executor:
            loader = Loader(
                model, ModelConfig("m", base_path, **config), load, executor
            )
            await loader.start()
            if scenario:
                await scenario(model, loader)
        return model

    return asyncio.run(main())


def test_of_many_versions_the_good_one_is_served_and_each_bad_one_is_a_line(
    good, tmp_path, caplog
):
    shutil.copytree(good, tmp_path / "1")
    for number, damage in enumerate(DAMAGES.values(), start=2):
        version = tmp_path / str(number)
        shutil.copytree(good, version)
        damage(version)
    (tmp_path / "99").mkdir()
    with caplog.at_level(logging.INFO, "simcse_tf"):
        model = loading(tmp_path)
    assert model.available() == [1]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.count("\n") for line in lines] == [0] * (len(DAMAGES) + 1)
    for number in (*range(2, 2 + len(DAMAGES)), 99):
        assert sum(f"m version {number}: " in line for line in lines) == 1, lines
    statuses = {it.number: it.error for it in model.statuses()}
    assert {statuses[number] for number in range(2, 2 + len(DAMAGES))} == {NOT_LOADED}
    shown = descriptions.status(Catalog(model), model_pb2.ModelSpec(name="m"))
    assert len(shown.model_version_status) == len(DAMAGES) + 1
    assert "/" not in str(shown), "no path of the server"


@pytest.mark.parametrize("name", ["graph cut", "weights with a flipped bit"])
def test_where_no_version_is_good_one_line_names_the_newest(good, tmp_path, name):
    for number in (1, 2):
        shutil.copytree(good, tmp_path / str(number))
        DAMAGES[name](tmp_path / str(number))
    with pytest.raises(UserError, match="m version 2: .* is not as it was written"):
        loading(tmp_path)


@pytest.mark.parametrize("name", ["a pipe for weights", "weights missing"])
def test_while_a_bad_version_is_there_older_and_newer_ones_are_served(
    good, tmp_path, name
):
    shutil.copytree(good, tmp_path / "1")

    async def scenario(model, loader):
        shutil.copytree(good, tmp_path / "2")
        DAMAGES[name](tmp_path / "2")
        for _ in range(3):
            await loader.update()
        assert model.available() == [1]
        shutil.copytree(good, tmp_path / "3")
        for _ in range(3):
            await loader.update()
        await asyncio.sleep(0.05)
        assert model.available() == [3]

    loading(tmp_path, scenario)


class Loaded:
    """What a loader loads, without TensorFlow's part."""

    def __init__(self, version, path):
        if (path / GRAPH).read_text() != "whole":
            raise RuntimeError(f"{path} is broken\nin two lines")
        self.version = version

    async def close(self):
        pass


def put(base_path, *names, content="whole"):
    for name in names:
        (base_path / str(name)).mkdir(parents=True)
        (base_path / str(name) / GRAPH).write_text(content)


def test_only_what_tf_serving_takes_for_a_number_is_a_version(tmp_path):
    names = ["1", "0001", "007", "٣", "-4", "+5", "6.0", " 8", "1_0", "²", "0x9"]
    put(tmp_path, *names, 2**63 - 1, 2**63, "9" * 200, ".3.new-k3x9w2ab.simcse")
    (tmp_path / "11").symlink_to(tmp_path / "nowhere")
    (tmp_path / "12").write_text("a file")
    (tmp_path / "13").symlink_to("13")
    found = versions(tmp_path)
    assert {n: path.name for n, path in found.items()} == {
        1: "1",
        7: "007",
        2**63 - 1: str(2**63 - 1),
        # Nobody knows what is behind a link to itself: what loads it says so.
        13: "13",
    }


def as_a_user(check):
    """Runs a function where permissions hold: root may look everywhere."""
    if os.getuid():
        check()
    elif child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        try:
            os.setuid(65534)
            check()
            os._exit(0)
        finally:
            os._exit(1)


def test_a_directory_that_forbids_to_look_hides_no_other_version():
    with tempfile.TemporaryDirectory() as directory:
        base_path = Path(directory)
        base_path.chmod(0o755)
        put(base_path, 1, 2)
        (base_path / "2").chmod(0)

        def check():
            assert [*versions(base_path)] == [1, 2]
            assert len(snapshot(base_path / "2")) == 1, "later there will be more"
            with pytest.raises(UserError, match="cannot read .*: Permission denied"):
                check_files(base_path / "2")

        as_a_user(check)
        base_path.chmod(0)

        def check_base():
            with pytest.raises(UserError, match="cannot read .*: Permission denied"):
                versions(base_path)

        as_a_user(check_base)
        base_path.chmod(0o755)
        (base_path / "2").chmod(0o755)


def test_a_failure_is_tried_again_as_tf_serving_does_and_told_once(
    tmp_path, caplog, monkeypatch
):
    put(tmp_path, 1)
    put(tmp_path, 2, content="broken")
    tries = []

    def load(version, path):
        tries.append(version)
        return Loaded(version, path)

    async def scenario(model, loader):
        now = asyncio.get_running_loop().time()
        for minute in range(RETRIES + 3):
            at = now + minute * (RETRY_SECONDS + 1)
            monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda at=at: at)
            await loader.update()
            await loader.update()
        monkeypatch.undo()
        assert tries.count(2) == 1 + RETRIES
        assert caplog.text.count("is broken in two lines") == 1
        # A change of permissions may be what repairs it.
        (tmp_path / "2" / GRAPH).chmod(0o600)
        await loader.update()
        await loader.update()
        assert tries.count(2) == 2 + RETRIES

    loading(tmp_path, scenario, load)


def test_versions_that_vanish_or_whose_base_is_replaced_change_nothing(
    tmp_path, caplog
):
    base_path = tmp_path / "base"
    put(base_path, 1)

    def load(version, path):
        if version == 2:
            shutil.rmtree(path)
        return Loaded(version, path)

    async def scenario(model, loader):
        put(base_path, 2)
        for _ in range(3):
            await loader.update()
        assert model.available() == [1]
        base_path.rename(tmp_path / "away")
        for replace in (
            lambda: base_path.write_text("a file"),
            lambda: os.mkfifo(base_path),
            lambda: base_path.symlink_to(base_path),
            lambda: base_path.symlink_to("nowhere"),
            base_path.mkdir,
        ):
            replace()
            await loader.update()
            assert model.available() == [1]
            shutil.rmtree(base_path) if base_path.is_dir() else base_path.unlink()
        assert not [record for record in caplog.records if record.exc_info]

    loading(base_path, scenario, load)


def test_of_thousands_of_versions_few_are_looked_into(tmp_path, monkeypatch):
    put(tmp_path, *range(1, 2001))
    put(tmp_path, *range(2001, 2151), content="broken")
    looked = []

    def counted(path):
        looked.append(path)
        return snapshot(path)

    monkeypatch.setattr(loader_module, "snapshot", counted)

    async def scenario(model, loader):
        assert model.available() == [2000]
        looked.clear()
        await loader.update()
        assert model.available() == [2000]
        assert len(looked) <= 151
        assert len(model.statuses()) <= MOST_ENDED + 1

    began = time.process_time()
    loading(tmp_path, scenario, Loaded)
    assert time.process_time() - began < 10


def test_a_disk_that_hangs_keeps_nobody_waiting(tmp_path, monkeypatch):
    put(tmp_path, 1)
    gaps = []

    def hang(look):
        def slow(*arguments):
            time.sleep(0.3)
            return look(*arguments)

        return slow

    async def tick():
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - began)

    async def scenario(model, loader):
        for name in ("numbered", "holds_graph", "snapshot"):
            monkeypatch.setattr(loader_module, name, hang(getattr(loader_module, name)))
        put(tmp_path, 2)
        ticking = asyncio.create_task(tick())
        for _ in range(2):
            await loader.update()
        ticking.cancel()
        assert model.available()[0] == 2
        # Eight looks hang. A busy machine may be late once or twice.
        assert sum(gap > 0.25 for gap in gaps) <= 2

    loading(tmp_path, scenario, Loaded)


@pytest.mark.parametrize("kind", ["missing", "a file", "a pipe", "a loop", "NUL"])
def test_a_base_that_is_no_directory_is_one_line(tmp_path, kind):
    base_path = tmp_path / ("a\0b" if kind == "NUL" else "base")
    {
        "a file": lambda: base_path.write_text("x"),
        "a pipe": lambda: os.mkfifo(base_path),
        "a loop": lambda: base_path.symlink_to(base_path),
    }.get(kind, lambda: None)()
    for look in (numbered, versions, newest_version):
        with pytest.raises(UserError, match="^--model_base_path: [^\n]*$"):
            look(base_path)


def test_files_beside_those_of_a_foreign_manifest_are_not_compared(good, tmp_path):
    version = Path(shutil.copytree(good, tmp_path / "1"))
    for manifest in ("[]", "{}", '{"files": null}', '{"files": ["a"]}'):
        (version / "manifest.json").write_text(manifest)
        check_files(version)
    (version / "manifest.json").unlink()
    check_files(version)


def test_an_unexpected_error_names_no_path():
    error = FileNotFoundError(2, "No such file", "/models/secret")
    code, message = status_errors.describe(error)
    assert (code, message) == (
        tf.errors.INTERNAL,
        "FileNotFoundError: the server's log says more",
    )


MODEL = 'config { name: "m" base_path: "/m" model_platform: "tensorflow" }'
CONFIGS = {
    "no text": b"\xff\xfe",
    "NUL": b"\0",
    "a million braces": b"a{" * 500_000,
    "deep": b"model_config_list{config{" * 20_000,
    "a number of many digits": b"max_batch_size{value:" + b"9" * 100_000 + b"}",
    "messages in messages": b"custom_model_config { "
    b"[type.googleapis.com/tensorflow.serving.ModelServerConfig] { " * 300,
    "twice": b"model_config_list { " + MODEL.encode() * 2 + b"}",
    "cut": b"model_config_list { " + MODEL.encode()[:-9],
    "larger than any": b"#" * (text_config.MOST_BYTES + 1),
}
READERS = ("read_models", "read_batching", "read_monitoring", "read_ssl")


@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_config_file_is_one_line(tmp_path, reader):
    read = getattr(text_config, reader)
    path = tmp_path / "some.config"
    for content in CONFIGS.values():
        path.write_bytes(content)
        with pytest.raises(UserError, match="some.config"):
            read(path)
    path.unlink()
    for put in (os.mkfifo, Path.mkdir, lambda it: it.symlink_to(it)):
        put(path)
        with pytest.raises(UserError, match="cannot read .*some.config"):
            read(path)
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.attack
def test_hostile_reloads_under_load_lose_no_request(good, tmp_path):
    """Damaged versions come between good ones, and every file may vanish."""
    base_path = tmp_path / "base"
    shutil.copytree(good, base_path / "1")
    stop = threading.Event()
    acts = list(islice(cycle([*DAMAGES.values(), None, shutil.rmtree]), 124))

    def ask(client):
        answered = 0
        while not stop.is_set():
            assert np.isfinite(client.encode(["a text"] * 3)).all()
            answered += 1
        return answered

    with (
        running_server(base_path, "--file_system_poll_wait_seconds=0.05") as server,
        Client(server.target) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        asking = [threads.submit(ask, client) for _ in range(4)]
        try:
            for number, act in enumerate(acts, start=2):
                shutil.copytree(good, tmp_path / "staged")
                (tmp_path / "staged").rename(base_path / str(number))
                if act:
                    act(base_path / str(number))
                    time.sleep(0.1)
                else:
                    wait_for(client, number)
                    for old in set(numbered(base_path)) - {number}:
                        shutil.rmtree(base_path / str(old))
        finally:
            stop.set()
        answered = sum(future.result() for future in asking)
        assert answered > len(acts)
        assert server.process.poll() is None


def wait_for(client, version):
    deadline = time.monotonic() + 60
    while client.status().get(version) != "AVAILABLE":
        assert time.monotonic() < deadline, client.status()
        time.sleep(0.05)
