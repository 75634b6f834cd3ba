"""Starts the server that the flags ask for: TF Serving, or ours in this process."""

import argparse
import dataclasses
import gc
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from simcse_tf.core.errors import UserError
from simcse_tf.core.observing import Observing
from simcse_tf.core.token_file import read_token
from simcse_tf.server import channel_arguments, text_config
from simcse_tf.server.model_config import ModelConfig
from simcse_tf.server.options import REST_BODY_BYTES, REST_CONNECTIONS, Options
from simcse_tf.server.process import warn_if_open_to_all
from simcse_tf.server.versions import newest_version

TF_SERVING = "tensorflow_model_server"
REST_PORT = 8501
LOOPBACK = "127.0.0.1"
EVERY_INTERFACE = "0.0.0.0"

POLLS = ("model_config_file_poll_wait_seconds", "file_system_poll_wait_seconds")

# TF Serving refuses clients beyond its number of gRPC threads, by default four
# per CPU.
GRPC_THREADS = 256


def run_tf_serving(binary: str, args: argparse.Namespace) -> NoReturn:
    """Replaces this process by TF Serving.

    Args:
        binary: The path of `tensorflow_model_server`.
        args: What `flags.parse` returned.

    Raises:
        UserError: TF Serving has no such feature, a file or port is wrong, or the
            program cannot be started.

    Example:
    ```python
    args = flags.parse(["--model_base_path", "exports/simcse"])
    run_tf_serving("/usr/bin/tensorflow_model_server", args)
    ```
    """
    if args.host not in (None, EVERY_INTERFACE):
        raise UserError(
            f"--host: {binary} listens on {EVERY_INTERFACE} only, received {args.host}"
        )
    if args.token_file:
        raise UserError(f"--token_file: {binary} cannot check tokens")
    for flag in ("rest_max_connections", "rest_max_body_bytes"):
        if getattr(args, flag) is not None:
            raise UserError(f"--{flag}: {binary} has no such limit")
    for flag, default in dataclasses.asdict(Observing()).items():
        if getattr(args, flag) != default:
            raise UserError(f"--{flag}: {binary} has no such flag")
    if args.port == 0:
        raise UserError(f"--port: {binary} needs a fixed port, received 0")
    rest_port = REST_PORT if args.rest_api_port is None else args.rest_api_port
    _check_ports_differ(args.port, rest_port)
    flags = _tf_serving_flags(args)
    _check_port_is_free("--port", EVERY_INTERFACE, args.port)
    _check_port_is_free("--rest_api_port", EVERY_INTERFACE, rest_port)
    command = [binary, f"--port={args.port}", f"--rest_api_port={rest_port}", *flags]
    # The user may not know that other machines can reach this server.
    print(f"starting {binary} on {EVERY_INTERFACE}:{args.port}", file=sys.stderr)
    try:
        os.execv(binary, command)
    except OSError as error:
        raise UserError(f"cannot start {binary}: {error.strerror}") from error


def _tf_serving_flags(args: argparse.Namespace) -> list[str]:
    """Checks the flags that both servers have; makes relative paths absolute."""
    flags = [f"--grpc_max_threads={GRPC_THREADS}"]
    if args.model_config_file:
        _check_labels(args)
        flags.append(f"--model_config_file={args.model_config_file.resolve()}")
    else:
        newest_version(args.model_base_path)
        flags.append(f"--model_name={args.model_name}")
        flags.append(f"--model_base_path={args.model_base_path.resolve()}")
    if args.enable_batching:
        text_config.read_batching(args.batching_parameters_file)
        path = args.batching_parameters_file.resolve()
        flags += ["--enable_batching=true", f"--batching_parameters_file={path}"]
    text_config.read_monitoring(args.monitoring_config_file)
    flags.append(f"--monitoring_config_file={args.monitoring_config_file.resolve()}")
    if args.ssl_config_file:
        text_config.read_ssl(args.ssl_config_file)
        flags.append(f"--ssl_config_file={args.ssl_config_file.resolve()}")
    flags += [_whole_seconds(name, args) for name in POLLS]
    for name in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
        flags.append(f"--{name}={getattr(args, name)}")
    if args.grpc_channel_arguments:
        channel_arguments.parse(args.grpc_channel_arguments)
        flags.append(f"--grpc_channel_arguments={args.grpc_channel_arguments}")
    if args.allow_version_labels_for_unavailable_models:
        flags.append("--allow_version_labels_for_unavailable_models=true")
    return flags


def _check_labels(args: argparse.Namespace) -> None:
    models = text_config.read_models(args.model_config_file).model_config_list.config
    labeled = [model.name for model in models if model.version_labels]
    if labeled and not args.allow_version_labels_for_unavailable_models:
        raise UserError(
            f"{args.model_config_file}: {TF_SERVING} starts with labels, as of model "
            f"{labeled[0]}, only with "
            f"--allow_version_labels_for_unavailable_models=true"
        )


def _whole_seconds(name: str, args: argparse.Namespace) -> str:
    """TF Serving reads seconds as int32, and prints its usage for anything else."""
    seconds = getattr(args, name)
    if seconds != int(seconds) or seconds >= 2**31:
        raise UserError(
            f"--{name}: {TF_SERVING} takes whole seconds below 2^31, received {seconds}"
        )
    return f"--{name}={int(seconds)}"


def run_python_server(args: argparse.Namespace) -> None:
    """Serves in this process until it is stopped.

    Args:
        args: What `flags.parse` returned.

    Raises:
        UserError: A file, port or model is wrong.

    Example:
    ```python
    run_python_server(flags.parse(["--model_base_path", "exports/simcse"]))
    ```
    """
    host = args.host or LOOPBACK
    rest_port = args.rest_api_port or 0
    _check_ports_differ(args.port, rest_port)
    options = _options(args, host, rest_port)
    for model in options.models:
        newest_version(model.base_path)
    _check_port_is_free("--port", host, args.port)
    _check_port_is_free("--rest_api_port", host, rest_port)
    if not (options.ssl or options.token):
        warn_if_open_to_all(host, "server")

    # Imported here because it imports TensorFlow: the mistakes above are reported at
    # once. The import leaves no garbage, and to look for some would take a seventh of
    # its time, and later keep requests waiting.
    gc.disable()
    from simcse_tf.server.run import run

    gc.freeze()
    gc.enable()
    run(options)


def _options(args: argparse.Namespace, host: str, rest_port: int) -> Options:
    batching = (
        text_config.read_batching(args.batching_parameters_file)
        if args.enable_batching
        else None
    )
    ssl = None
    if args.ssl_config_file:
        from simcse_tf.server.security import ssl_context

        ssl = text_config.read_ssl(args.ssl_config_file)
        ssl_context(ssl)  # gRPC would not say what is wrong with a key
    return Options(
        models=_models(args),
        host=host,
        port=args.port,
        rest_port=rest_port,
        rest_max_connections=args.rest_max_connections or REST_CONNECTIONS,
        rest_max_body_bytes=args.rest_max_body_bytes or REST_BODY_BYTES,
        batching=batching,
        metrics_path=_metrics_path(args.monitoring_config_file),
        ssl=ssl,
        token=read_token(args.token_file, "--token_file") if args.token_file else None,
        grpc_channel_arguments=channel_arguments.parse(args.grpc_channel_arguments),
        poll_seconds=args.file_system_poll_wait_seconds,
        model_config_file=args.model_config_file,
        model_config_poll_seconds=args.model_config_file_poll_wait_seconds
        if args.model_config_file
        else 0,
        labels_for_unavailable_models=args.allow_version_labels_for_unavailable_models,
        intra_op_threads=args.tensorflow_intra_op_parallelism,
        inter_op_threads=args.tensorflow_inter_op_parallelism,
        observing=Observing.of(args),
    )


def _models(args: argparse.Namespace) -> tuple[ModelConfig, ...]:
    if not args.model_config_file:
        return (ModelConfig(args.model_name, args.model_base_path),)
    parsed = text_config.read_models(args.model_config_file)
    return tuple(map(ModelConfig.from_proto, parsed.model_config_list.config))


def _metrics_path(path: Path) -> str | None:
    prometheus = text_config.read_monitoring(path).prometheus_config
    if not prometheus.enable:
        return None
    return prometheus.path or text_config.DEFAULT_METRICS_PATH


def _check_ports_differ(port: int, rest_port: int) -> None:
    if port == rest_port != 0:
        raise UserError(f"--rest_api_port: the same as --port, {port}")


def _check_port_is_free(flag: str, host: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host: no such address: {host}: {error}") from error
    with socket.socket(family, kind) as listener:
        # The server does the same: a port that a stopped server left in TIME_WAIT
        # is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            message = f"{flag}: cannot listen on {host}:{port}: {error.strerror}"
            raise UserError(message) from error
