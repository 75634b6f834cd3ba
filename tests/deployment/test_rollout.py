"""The rollout script of serving/, on servers that follow TF Serving's rule."""

import importlib.util
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from support.servers import (
    assert_one_line_mistake,
    export,
    free_port,
    open_stubs,
    predict_request,
    run_here,
    running_server,
)

SCRIPT = Path(__file__).parents[2] / "serving" / "rollout.py"
CONFIG = SCRIPT.with_name("models.config")


@pytest.fixture(scope="module")
def rollout():
    spec = importlib.util.spec_from_file_location("rollout", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["rollout"] = module
    spec.loader.exec_module(module)
    module.POLL_SECONDS = 0.1
    return module


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    """Versions 1, 2 and 3, and 4 that no server can load."""
    path = tmp_path_factory.mktemp("versions")
    for version in (1, 2, 3):
        export(path, version)
    shutil.copytree(path / "1", path / "4")
    (path / "4" / "saved_model.pb").write_bytes(b"broken")
    return path


@pytest.fixture(scope="module", params=["file", "sent"])
def site(request, base_path, tmp_path_factory):
    """A config file, a server that serves it, and the flags to reach both."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG.read_text().replace("/models/simcse", str(base_path)))
    polls = "0.2" if request.param == "file" else "0"
    with running_server(
        config,
        "--allow_version_labels_for_unavailable_models",
        "--file_system_poll_wait_seconds=0.1",
        f"--model_config_file_poll_wait_seconds={polls}",
    ) as server:
        flags = ["--target", server.target, "--config", config, "--timeout", "20"]
        yield config, server, [*flags, *(["--send"] if polls == "0" else [])]


@pytest.fixture
def ask(rollout, site, capsys):
    """Runs the script on the site, and returns how it ended."""

    def ask(*arguments):
        return run_here(rollout.main, capsys, *site[2], *arguments)

    return ask


class Requests(threading.Thread):
    """Sends requests for `stable`, one after the other, until it is told to stop."""

    def __init__(self, target):
        super().__init__()
        self.target = target
        self.versions = []
        self.failures = []
        self.ended = threading.Event()

    def run(self):
        request = predict_request(text=["a"])
        request.model_spec.version_label = "stable"
        with open_stubs(self.target) as stubs:
            while not self.ended.is_set():
                try:
                    answer = stubs.predictions.Predict(request, timeout=10)
                    self.versions.append(answer.model_spec.version.value)
                except Exception as error:
                    self.failures.append(error)
                # A core that is never idle would make other tests wait.
                time.sleep(0.005)


@pytest.mark.slow
def test_canary_promotion_and_rollback_under_load(site, ask):
    config, server, _ = site
    comments = [line for line in config.read_text().split("\n") if "#" in line]
    load = Requests(server.target)
    load.start()
    try:
        for label, version in (("canary", 2), ("stable", 2), ("stable", 1)):
            done = ask("label", label, version)
            assert done.returncode == 0, done.stderr
            assert f"{label} is version {version}" in done.stdout
        assert_one_line_mistake(ask("unlist", 2), "canary names it")
        assert ask("label", "canary", 1).returncode == 0
        assert ask("unlist", 2).returncode == 0
        assert f"{server.target} version 2 END" in ask("status").stdout
        assert ask("label", "stable", 2).returncode == 0, "listed again"
        assert ask("label", "stable", 1).returncode == 0
    finally:
        load.ended.set()
        load.join()
    assert load.failures == []
    assert {*load.versions} == {1, 2}
    assert [line for line in config.read_text().split("\n") if "#" in line] == comments


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "seconds", "words"),
    [
        (4, 20, ["version 4", "cannot be loaded"]),
        (9, 1, ["version 9", "not after 1 s"]),
    ],
    ids=["broken", "missing"],
)
def test_what_cannot_be_loaded_is_taken_back(site, ask, version, seconds, words):
    config, server, _ = site
    before = config.read_text()
    load = Requests(server.target)
    load.start()
    try:
        done = ask("--timeout", seconds, "label", "stable", version)
    finally:
        load.ended.set()
        load.join()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for word in [*words, f"{config} is what it was"]:
        assert word in done.stderr
    assert config.read_text() == before
    assert load.failures == []
    assert {*load.versions} == {1}


@pytest.mark.slow
def test_an_edit_that_cannot_be_applied_is_taken_back(site, ask, tmp_path):
    config, _, _ = site
    before = config.read_text()
    seen = tmp_path / "seen"
    apply = f"cat {config} >> {seen}; ! grep -q 'versions: 3' {config}"
    done = ask("--apply", apply, "label", "canary", 3)
    assert (done.returncode, config.read_text()) == (1, before)
    assert "--apply: exit code 1" in done.stderr
    assert seen.read_text().endswith(before), "the old file is applied again"


def test_mistakes_are_one_line(rollout, tmp_path, capsys):
    config = tmp_path / "models.config"
    target = ["--target", f"127.0.0.1:{free_port()}", "--config", config]

    def mistake(text, *arguments):
        config.write_text(text)
        return run_here(rollout.main, capsys, *target, *arguments)

    newest = (
        'model_config_list { config { name: "simcse" base_path: "/m" '
        'model_platform: "tensorflow" } }'
    )
    assert_one_line_mistake(mistake(newest, "label", "stable", 2), "by number")
    assert_one_line_mistake(
        mistake(CONFIG.read_text(), "--model", "other", "status"), "other", "simcse"
    )
    assert_one_line_mistake(mistake(CONFIG.read_text(), "label", "stable", "x"), "'x'")


def test_a_server_that_is_away_is_said_and_nothing_changes(rollout, tmp_path, capsys):
    config = tmp_path / "models.config"
    shutil.copy(CONFIG, config)
    start = time.monotonic()
    done = run_here(
        rollout.main,
        capsys,
        *("--target", f"127.0.0.1:{free_port()}", "--config", config),
        *("--timeout", "1", "label", "stable", 2),
    )
    assert (done.returncode, config.read_text()) == (1, CONFIG.read_text())
    assert "127.0.0.1" in done.stderr
    assert time.monotonic() - start < 20
