"""New versions come, old ones go, and nobody who asks notices."""

import asyncio
import gc
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
from support.servers import export, predict_request, running_server
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from simcse_tf.client import Client
from simcse_tf.core.errors import UserError
from simcse_tf.server import loader as loader_module
from simcse_tf.server.catalog import NOT_LOADED, Catalog, ServedModel
from simcse_tf.server.loader import Loader
from simcse_tf.server.model_config import ModelConfig
from simcse_tf.server.reloading import Reloading
from simcse_tf.server.servable import Servable

SECONDS = 30


class Loaded:
    """What a loader loads, without TensorFlow's part."""

    def __init__(self, version, path):
        if (path / "saved_model.pb").read_text() == "broken":
            raise UserError(f"{path} is broken")
        self.version = version
        self.closed = False

    async def close(self):
        self.closed = True


def put(base_path, *versions, content="whole"):
    for version in versions:
        (base_path / str(version)).mkdir(parents=True, exist_ok=True)
        (base_path / str(version) / "saved_model.pb").write_text(content)


def remove(base_path, version):
    shutil.rmtree(base_path / str(version))


def spec(version=None, label=None):
    found = model_pb2.ModelSpec(name="m")
    if version:
        found.version.value = version
    if label:
        found.version_label = label
    return found


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    """The loader's takes long with TensorFlow's many objects; no test needs it."""
    monkeypatch.setattr(loader_module, "gc", Mock())


def following(base_path, scenario, new_labels=False, **config):
    """Runs `scenario(model, loader)` with a loader that has started."""

    async def main():
        model = ServedModel("m")
        with ThreadPoolExecutor(1) as executor:
            config_ = ModelConfig("m", base_path, **config)
            loader = Loader(model, config_, Loaded, executor, new_labels)
            await loader.start()
            await scenario(model, loader)

    asyncio.run(main())


async def updates(loader, times=2):
    """A change is seen at the first look and, being settled, used at the second."""
    for _ in range(times):
        await loader.update()
    await asyncio.sleep(0.05)


def states(model):
    return {it.number: (it.state, it.error) for it in model.statuses()}


AVAILABLE, END = 30, 50


def test_a_new_version_takes_over_and_the_old_one_ends(tmp_path):
    put(tmp_path, 1)

    async def scenario(model, loader):
        put(tmp_path, 2)
        await updates(loader, 1)
        assert model.available() == [1], "it may still be written"
        await updates(loader, 1)
        assert states(model) == {2: (AVAILABLE, ""), 1: (END, "")}

    following(tmp_path, scenario)


def test_an_old_version_stays_until_its_last_request_has_ended(tmp_path):
    put(tmp_path, 1)

    async def scenario(model, loader):
        catalog = Catalog(model)
        with catalog.lease(spec()) as old:
            put(tmp_path, 2)
            await updates(loader)
            with catalog.lease(spec()) as new:
                assert (old.version, new.version) == (1, 2)
            assert not old.closed
        await asyncio.sleep(0.05)
        assert old.closed

    following(tmp_path, scenario)


def test_a_broken_version_is_reported_once_and_loaded_when_its_files_have_changed(
    tmp_path, caplog
):
    put(tmp_path, 1)

    async def scenario(model, loader):
        put(tmp_path, 2, content="broken")
        await updates(loader, 5)
        assert model.available() == [1]
        assert states(model)[2] == (END, NOT_LOADED), "no path of the server"
        assert caplog.text.count("2 is broken") == 1
        put(tmp_path, 2, content="repaired")
        await updates(loader)
        assert model.available() == [2]

    following(tmp_path, scenario)


def test_an_older_version_is_served_where_the_newest_is_broken_at_the_start(tmp_path):
    put(tmp_path, 1, 2)
    put(tmp_path, 3, content="broken")

    async def scenario(model, loader):
        assert model.available() == [2]

    following(tmp_path, scenario)


def test_where_every_version_is_broken_the_start_fails(tmp_path):
    put(tmp_path, 3, content="broken")
    with pytest.raises(UserError, match="3 is broken"):
        following(tmp_path, None)


def test_removing_the_newest_version_is_a_rollback(tmp_path):
    put(tmp_path, 1, 2)

    async def scenario(model, loader):
        remove(tmp_path, 2)
        await updates(loader)
        assert model.available() == [1]
        remove(tmp_path, 1)
        await updates(loader)
        assert model.available() == [1], "nothing else could answer"

    following(tmp_path, scenario)


def test_an_unreadable_base_directory_changes_nothing(tmp_path, caplog):
    base_path = tmp_path / "simcse"
    put(base_path, 1)

    async def scenario(model, loader):
        base_path.rename(tmp_path / "away")
        await updates(loader)
        assert model.available() == [1]
        assert "no such directory" in caplog.text
        (tmp_path / "away").rename(base_path)
        put(base_path, 2)
        await updates(loader)
        assert model.available() == [2]

    following(base_path, scenario)


def reloaded(
    loader, *versions, base_path=None, name="m", platform="tensorflow", **labels
):
    """Sends a config as a client or the file would."""
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(name=name, model_platform=platform)
    model.base_path = str(base_path or loader.config.base_path)
    model.model_version_policy.specific.versions.extend(versions)
    model.version_labels.update(labels)
    Reloading([loader]).reload(config)


def answering(model, label):
    with Catalog(model).lease(spec(label=label)) as servable:
        return servable.version


def test_a_label_moves_once_its_version_is_available(tmp_path):
    put(tmp_path, 1, 2)

    async def scenario(model, loader):
        # One edit that lists a version and moves a label to it is refused whole.
        for _ in range(2):
            with pytest.raises(tf.errors.FailedPreconditionError) as error:
                reloaded(loader, 1, 2, stable=2)
            assert error.value.message == (
                "Request to assign label to version 2 of model m, which is not "
                "currently available for inference"
            )
            await updates(loader)
            assert (model.available(), answering(model, "stable")) == ([1], 1)
        reloaded(loader, 1, 2, stable=1)
        await updates(loader)
        assert (model.available(), answering(model, "stable")) == ([2, 1], 1)
        reloaded(loader, 1, 2, stable=2)
        assert answering(model, "stable") == 2, "at once"
        reloaded(loader, 2, stable=2)
        await updates(loader)
        assert model.available() == [2]

    following(tmp_path, scenario, new_labels=True, specific=(1,), labels={"stable": 1})


def test_a_new_label_may_wait_for_its_version_where_that_is_allowed(tmp_path):
    put(tmp_path, 1)

    async def scenario(model, loader):
        reloaded(loader, 1, 2, stable=1, canary=2)
        with pytest.raises(tf.errors.NotFoundError):
            answering(model, "canary")
        put(tmp_path, 2)
        await updates(loader)
        assert answering(model, "canary") == 2
        reloaded(loader, 1, 2, stable=1)
        with pytest.raises(tf.errors.InvalidArgumentError, match="canary"):
            answering(model, "canary")

    following(tmp_path, scenario, new_labels=True, specific=(1,), labels={"stable": 1})


def test_labels_are_no_part_of_a_start_unless_they_are_allowed(tmp_path):
    put(tmp_path, 1)
    with pytest.raises(UserError, match=r"version 1 of model m.*unavailable_models"):
        following(tmp_path, None, labels={"stable": 1})

    async def scenario(model, loader):
        with pytest.raises(tf.errors.FailedPreconditionError, match="version 2"):
            reloaded(loader, 1, new=2)
        reloaded(loader, 1, new=1)
        assert answering(model, "new") == 1

    following(tmp_path, scenario, specific=(1,))


def test_models_and_base_paths_stay_those_of_the_start(tmp_path):
    put(tmp_path, 1)

    async def scenario(model, loader):
        for other in ({"name": "other"}, {"base_path": "/elsewhere"}):
            with pytest.raises(tf.errors.FailedPreconditionError, match=r"th. start"):
                reloaded(loader, 1, **other)
        with pytest.raises(tf.errors.InvalidArgumentError, match='"tensorflow"'):
            reloaded(loader, 1, platform="other")
        with pytest.raises(tf.errors.InvalidArgumentError, match="ModelConfigList"):
            Reloading([loader]).reload(model_server_config_pb2.ModelServerConfig())
        assert loader.config.base_path == tmp_path

    following(tmp_path, scenario)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (spec(label="none"), tf.errors.InvalidArgumentError),
        (spec(version=2), tf.errors.NotFoundError),
        (model_pb2.ModelSpec(name="other"), tf.errors.NotFoundError),
        (model_pb2.ModelSpec(), tf.errors.InvalidArgumentError),
    ],
)
def test_what_is_not_served_is_refused(tmp_path, asked, error):
    put(tmp_path, 1)

    async def scenario(model, loader):
        with pytest.raises(error), Catalog(model).lease(asked):
            pass

    following(tmp_path, scenario)


def test_a_retired_version_leaves_memory(tmp_path):
    export(tmp_path, 1)

    async def main():
        model = ServedModel("m")
        with ThreadPoolExecutor(1) as executor:
            servable = Servable(1, tmp_path / "1", None, executor)
            model.mark_loading(1)
            model.publish(servable)
            await servable.run(predict_request(text=[b"a"]))
            alive = weakref.ref(servable._model)
            del servable
            await model.retire(1)
        gc.collect()
        assert alive() is None

    asyncio.run(main())


class Versioned(tf.Module):
    """Embeddings that say which version made them."""

    def __init__(self, version):
        self._version = tf.Variable(float(version))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def encode(self, text):
        return {"embedding": tf.fill([tf.size(text), 4], 1.0) * self._version}


def export_version(base_path: Path, version: int) -> Path:
    staged = base_path.parent / "staged" / str(version)
    module = Versioned(version)
    tf.saved_model.save(module, str(staged), {"serving_default": module.encode})
    return staged


@pytest.mark.slow
def test_switches_under_load_lose_no_request_and_mix_no_versions(tmp_path):
    base_path = tmp_path / "simcse"
    base_path.mkdir()
    staged = [export_version(base_path, version) for version in range(1, 5)]
    shutil.copytree(staged[0], base_path / "1")
    stop = threading.Event()
    with (
        running_server(base_path, "--file_system_poll_wait_seconds=0.2") as server,
        Client(server.target) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        asking = [threads.submit(ask, client, stop) for _ in range(4)]
        try:
            break_a_version(staged[1], base_path / "2")
            for path in staged[1:]:
                copy_slowly(path, base_path / path.name)
                wait_for(client, int(path.name))
        finally:
            stop.set()
        seen = [version for future in asking for version in future.result()]
        assert set(seen) == {1, 2, 3, 4}
        assert client.status()[1] == "END"


def ask(client, stop):
    seen = []
    while not stop.is_set():
        # One request: a call of several fails when the version changes in between.
        rows = client.encode(["a text"] * 7)
        assert np.ptp(rows) == 0, "rows of two versions"
        seen.append(int(rows[0, 0]))
        # Cores that are never idle would make other tests wait.
        time.sleep(0.005)
    return seen


def break_a_version(staged, path):
    """Leaves it for a while as an interrupted copy does, then takes it away."""
    path.mkdir()
    shutil.copy(staged / "saved_model.pb", path)
    time.sleep(1.5)
    shutil.rmtree(path)


def copy_slowly(staged, path):
    path.mkdir()
    shutil.copy(staged / "saved_model.pb", path)
    time.sleep(0.3)
    shutil.copytree(staged / "variables", path / "variables")


def wait_for(client, version):
    deadline = time.monotonic() + SECONDS
    while client.status().get(version) != "AVAILABLE":
        assert time.monotonic() < deadline, client.status()
        time.sleep(0.1)
    time.sleep(0.3)
