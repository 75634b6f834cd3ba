"""The command line of `simcse_tf.serve`, and what it passes to TF Serving."""

import dataclasses
import os
import socket
import stat
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from support.servers import (
    assert_one_line_mistake,
    free_port,
    run_here,
    run_serve,
)

from simcse_tf import serve
from simcse_tf.core.errors import UserError
from simcse_tf.server import channel_arguments, configs_pb2, text_config, versions
from simcse_tf.server.model_config import ModelConfig


@pytest.fixture
def answer(monkeypatch, capsys):
    """Runs the command in this process, for flags that end it."""

    def answer(*flags, path=""):
        monkeypatch.setenv("PATH", str(path))
        return run_here(serve.main, capsys, *flags)

    return answer


@pytest.fixture
def options(monkeypatch):
    """Parses flags to the options of the Python server, which is not started."""

    def parse(*flags):
        run = Mock()
        monkeypatch.setattr("simcse_tf.server.run.run", run)
        monkeypatch.setattr("gc.freeze", lambda: None)
        monkeypatch.setenv("PATH", "")
        serve.main(["--port", "0", *map(str, flags)])
        [[options]] = [call.args for call in run.call_args_list]
        return options

    return parse


def make_version(base_path: Path, name: str) -> None:
    (base_path / name).mkdir()
    (base_path / name / "saved_model.pb").touch()


def test_newest_complete_version_is_served(tmp_path):
    for name in ("2", "10", "latest", "-11", "٣", str(2**63)):
        make_version(tmp_path, name)
    (tmp_path / "11").mkdir()
    assert versions.newest_version(tmp_path) == (10, tmp_path / "10")


def test_missing_base_directory_is_a_mistake(tmp_path):
    done = run_serve("--model_base_path", str(tmp_path / "nothing"))
    assert_one_line_mistake(done, "--model_base_path", str(tmp_path / "nothing"))


def test_base_directory_without_versions_is_a_mistake(tmp_path, answer):
    (tmp_path / "1").mkdir()
    done = answer("--model_base_path", tmp_path)
    assert_one_line_mistake(done, "--model_base_path", "saved_model.pb")


def test_version_directory_in_place_of_its_parent_is_explained(tmp_path):
    make_version(tmp_path, "1")
    with pytest.raises(UserError, match="directory above"):
        versions.newest_version(tmp_path / "1")


@pytest.mark.parametrize("flag", ["--port", "--rest_api_port"])
def test_port_of_another_server_is_a_mistake(base_path, answer, flag):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        others = ["--port", "0"] if flag != "--port" else []
        done = answer("--model_base_path", base_path, flag, port, *others)
    assert_one_line_mistake(done, flag, port, "in use")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "65536"], ["--port", "65536"]),
        (["--port", "http"], ["--port", "http"]),
        (["--host", "no.such.host.invalid"], ["--host", "no.such.host.invalid"]),
        (["--model_basepath", "x"], ["--model_basepath"]),
        (["--port", "9000", "--rest_api_port", "9000"], ["--rest_api_port", "--port"]),
        (["--enable_batching=yes"], ["--enable_batching", "true or false", "yes"]),
        (["--file_system_poll_wait_seconds=-1"], ["0 or more", "-1"]),
        (["--tensorflow_intra_op_parallelism=x"], ["intra_op", "0 or more"]),
        (["--model_config_file", "x"], ["--model_base_path and --model_config_file"]),
        (["--batching_parameters_file", "nothing"], ["cannot read nothing"]),
        (["--token_file", "nothing"], ["--token_file", "nothing"]),
        (["--rest_max_connections=0"], ["expected 1 or more", "'0'"]),
        (["--rest_max_body_bytes=-1"], ["expected 1 or more", "'-1'"]),
        (["--grpc_channel_arguments=a=1"], ["--grpc_channel_arguments", "'a=1'"]),
        (["--grpc_channel_arguments=grpc.a"], ["grpc.NAME=VALUE", "'grpc.a'"]),
        ([f"--grpc_channel_arguments=grpc.a={2**31}"], ["32 bits"]),
    ],
)
def test_wrong_flags_are_mistakes(base_path, answer, flags, words):
    done = answer("--model_base_path", base_path, *flags)
    assert_one_line_mistake(done, *words)


def test_base_directory_is_required(answer):
    assert_one_line_mistake(answer(), "--model_base_path")


@pytest.fixture
def tf_serving(tmp_path):
    """A directory with a `tensorflow_model_server` that prints its arguments."""
    directory = tmp_path / "bin"
    directory.mkdir()
    binary = directory / "tensorflow_model_server"
    code = "import sys; print(*sys.argv[1:], sep='\\n')"
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return directory


def test_tf_serving_is_preferred_where_installed(base_path, tf_serving):
    port, rest_port = free_port(), free_port()
    flags = ["--model_base_path", str(base_path), "--port", str(port)]
    done = run_serve(*flags, "--rest_api_port", str(rest_port), path=tf_serving)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        "--grpc_max_threads=256",
        "--model_name=simcse",
        f"--model_base_path={base_path}",
        "--enable_batching=true",
        f"--batching_parameters_file={text_config.DEFAULT_BATCHING}",
        f"--monitoring_config_file={text_config.DEFAULT_MONITORING}",
        "--model_config_file_poll_wait_seconds=0",
        "--file_system_poll_wait_seconds=1",
        "--tensorflow_intra_op_parallelism=1",
        "--tensorflow_inter_op_parallelism=0",
    ]
    assert f"0.0.0.0:{port}" in done.stderr


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--host", "127.0.0.1"], "--host"),
        (["--port", "0"], "--port"),
        (["--port", "9000", "--rest_api_port", "9000"], "--rest_api_port"),
        (["--model_base_path", "nothing"], "--model_base_path"),
        (["--token_file", "token"], "--token_file"),
        (["--rest_max_connections", "9"], "--rest_max_connections"),
        (["--rest_max_body_bytes", "9"], "--rest_max_body_bytes"),
        (["--file_system_poll_wait_seconds", ".5"], "whole seconds"),
        (["--file_system_poll_wait_seconds", "3e9"], "whole seconds"),
    ],
)
def test_what_tf_serving_cannot_do_is_a_mistake(
    base_path, tf_serving, answer, flags, word
):
    done = answer("--model_base_path", base_path, *flags, path=tf_serving)
    assert_one_line_mistake(done, word)


def test_tf_serving_gets_the_files_that_the_python_server_would_read(
    tmp_path, tf_serving, answer, monkeypatch
):
    configs = {
        "model_config_file": 'model_config_list { config { name: "m" '
        'base_path: "/m" model_platform: "tensorflow" } }',
        "monitoring_config_file": "prometheus_config { enable: true }",
        "ssl_config_file": 'server_key: "k" server_cert: "c"',
        "batching_parameters_file": "max_batch_size { value: 8 }",
    }
    flags = []
    for name, text in configs.items():
        (tmp_path / name).write_text(text)
        flags.append(f"--{name}={tmp_path / name}")
    flags.append("--grpc_channel_arguments=grpc.max_connection_age_ms=30000")
    ports = [f"--port={free_port()}", f"--rest_api_port={free_port()}"]
    started = []
    monkeypatch.setattr(os, "execv", lambda *command: started.append(command))
    done = answer(*flags, *ports, path=tf_serving)
    assert done.returncode == 0, done.stderr
    [(binary, command)] = started
    assert binary == command[0] == str(tf_serving / "tensorflow_model_server")
    assert {*flags, *ports} < set(command)
    assert not any(flag.startswith("--model_base_path") for flag in command)


def test_tf_serving_starts_with_labels_only_where_they_are_allowed(
    tmp_path, tf_serving, answer, monkeypatch
):
    models = tmp_path / "models.config"
    models.write_text(
        'model_config_list { config { name: "m" base_path: "/m" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    flags = ["--model_config_file", models, "--port", free_port()]
    flags += ["--rest_api_port", free_port(), "--file_system_poll_wait_seconds=30.0"]
    allow = "--allow_version_labels_for_unavailable_models"
    assert_one_line_mistake(answer(*flags, path=tf_serving), str(models), allow)
    started = []
    monkeypatch.setattr(os, "execv", lambda *command: started.append(command))
    assert answer(*flags, allow, path=tf_serving).returncode == 0
    assert {f"{allow}=true", "--file_system_poll_wait_seconds=30"} < {*started[0][1]}


@pytest.mark.parametrize("flags", [[], ["--rest_api_port", "0"]])
def test_the_defaults_batch_and_have_no_rest(options, base_path, flags):
    found = options("--model_base_path", base_path, *flags)
    assert found.models == (ModelConfig("simcse", base_path),)
    assert (found.host, found.port, found.rest_port) == ("127.0.0.1", 0, 0)
    assert found.batching == text_config.read_batching(text_config.DEFAULT_BATCHING)
    assert found.metrics_path == "/monitoring/prometheus/metrics"
    assert (found.ssl, found.token, found.poll_seconds) == (None, None, 1)


def test_strangers_are_those_without_token_certificate_or_this_machine(
    options, base_path, tmp_path
):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o600)
    base = ("--model_base_path", base_path)
    assert options(*base).knows_its_clients
    assert options(*base, "--host", "::1").knows_its_clients
    everywhere = (*base, "--host", "0.0.0.0")
    assert not options(*everywhere).knows_its_clients
    assert options(*everywhere, "--token_file", token).knows_its_clients
    for verify in (True, False):
        ssl = configs_pb2.SSLConfig(client_verify=verify)
        found = dataclasses.replace(options(*everywhere), ssl=ssl)
        assert found.knows_its_clients is verify


def test_grpcs_own_settings_override_the_servers(options, base_path):
    text = "grpc.max_receive_message_length=-1,grpc.primary_user_agent=a"
    found = options(
        "--model_base_path", base_path, f"--grpc_channel_arguments={text}"
    ).grpc_channel_arguments
    assert found == {
        "grpc.max_receive_message_length": -1,
        "grpc.primary_user_agent": "a",
    }
    used = channel_arguments.with_defaults(found, connections=384)
    assert used["grpc.max_receive_message_length"] == -1
    assert used["grpc.max_allowed_incoming_connections"] == 384
    assert used["grpc.max_concurrent_streams"] == 128


def test_flags_reach_the_python_server(options, base_path, tmp_path):
    monitoring, token = tmp_path / "monitoring", tmp_path / "token"
    monitoring.write_text('prometheus_config { enable: true path: "/m" }')
    token.write_text("secret\n")
    token.chmod(0o600)
    found = options(
        *("--model_base_path", base_path, "--enable_batching=false"),
        *("--monitoring_config_file", monitoring, "--token_file", token),
        *("--rest_max_connections=8", "--rest_max_body_bytes=1000"),
        *("--tensorflow_intra_op_parallelism=2", "--file_system_poll_wait_seconds=.5"),
    )
    assert found.batching is None
    assert (found.metrics_path, found.token) == ("/m", "secret")
    assert (found.rest_max_connections, found.rest_max_body_bytes) == (8, 1000)
    assert (found.intra_op_threads, found.poll_seconds) == (2, 0.5)
    monitoring.write_text("prometheus_config { enable: false }")
    off = options(
        "--model_base_path", base_path, "--monitoring_config_file", monitoring
    )
    assert off.metrics_path is None
