"""Serves exported models: with TF Serving where installed, else in Python."""

import argparse
import gc
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

from simcse_tf.core import cli
from simcse_tf.core.errors import UserError
from simcse_tf.server import text_config
from simcse_tf.server.model_config import ModelConfig
from simcse_tf.server.options import Options
from simcse_tf.server.versions import newest_version

TF_SERVING = "tensorflow_model_server"
REST_PORT = 8501
LOOPBACK = "127.0.0.1"
EVERY_INTERFACE = "0.0.0.0"

# TF Serving refuses clients beyond its number of gRPC threads, by default four
# per CPU.
GRPC_THREADS = 256


def main() -> None:
    """Parses the command line and serves until stopped."""
    parser = _parser()
    args = parser.parse_args()
    if (args.model_base_path is None) == (args.model_config_file is None):
        parser.error("expected one of --model_base_path and --model_config_file")
    binary = shutil.which(TF_SERVING)
    if binary:
        _run_tf_serving(binary, args)
    else:
        _run_python_server(args)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m simcse_tf.serve",
        description=(
            f"Serve the versions in BASE_DIR: with {TF_SERVING} where it is on "
            f"the PATH, else with a Python server that speaks its gRPC protocol and "
            f"its RESTful API. The flags are TF Serving's, but for --host and "
            f"--token_file."
        ),
    )
    models = parser.add_argument_group("models")
    models.add_argument(
        "--model_base_path",
        metavar="BASE_DIR",
        type=Path,
        help="directory with a numbered subdirectory for every version",
    )
    models.add_argument(
        "--model_name", default="simcse", help="name in requests (default: simcse)"
    )
    models.add_argument(
        "--model_config_file",
        metavar="FILE",
        type=Path,
        help="models, versions and labels, in place of --model_base_path",
    )
    models.add_argument(
        "--model_config_file_poll_wait_seconds",
        metavar="S",
        type=_seconds,
        default=0,
        help="read that file again so often; 0 is never (default: 0)",
    )
    models.add_argument(
        "--file_system_poll_wait_seconds",
        metavar="S",
        type=_seconds,
        default=1,
        help="look for new versions so often; 0 is never (default: 1)",
    )
    _add_boolean(
        models,
        "--allow_version_labels_for_unavailable_models",
        default=False,
        help="labels may be of versions that are not loaded (default: false)",
    )
    _add_network_flags(parser.add_argument_group("network"))
    _add_work_flags(parser.add_argument_group("work"))
    return parser


def _add_network_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--port",
        type=_port,
        default=8500,
        help="gRPC port; the Python server takes any free one for 0 (default: 8500)",
    )
    group.add_argument(
        "--rest_api_port",
        type=_port,
        help=f"REST port, 0 for none (default: none; {REST_PORT} with {TF_SERVING})",
    )
    group.add_argument(
        "--host",
        help=f"address to listen on (default: {LOOPBACK}; {TF_SERVING} always "
        f"listens on {EVERY_INTERFACE})",
    )
    group.add_argument(
        "--ssl_config_file",
        metavar="FILE",
        type=Path,
        help=f"TLS: key and certificate; {TF_SERVING} uses it for gRPC only, the "
        f"Python server for REST, too",
    )
    group.add_argument(
        "--token_file",
        metavar="FILE",
        type=Path,
        help="refuse who does not send `authorization: Bearer TOKEN` (Python server)",
    )
    group.add_argument(
        "--monitoring_config_file",
        metavar="FILE",
        type=Path,
        help=f"Prometheus page on the REST port (default: "
        f"{text_config.DEFAULT_METRICS_PATH})",
    )


def _add_work_flags(group: argparse._ArgumentGroup) -> None:
    _add_boolean(
        group,
        "--enable_batching",
        default=True,
        help="compute requests together (default: true)",
    )
    group.add_argument(
        "--batching_parameters_file",
        metavar="FILE",
        type=Path,
        default=text_config.DEFAULT_BATCHING,
        help="sizes, times and threads of batches (default: 64 texts, 2 ms)",
    )
    for name, what in (("intra", "within an op"), ("inter", "between ops")):
        group.add_argument(
            f"--tensorflow_{name}_op_parallelism",
            metavar="N",
            type=_count,
            default=0,
            help=f"TensorFlow's threads {what}; 0 for one a CPU (default: 0)",
        )


def _add_boolean(
    group: argparse._ArgumentGroup, flag: str, default: bool, help: str
) -> None:
    """As TF Serving reads them: `--flag`, `--flag=true` or `--flag=false`."""
    group.add_argument(
        flag,
        metavar="BOOL",
        type=_boolean,
        nargs="?",
        const=True,
        default=default,
        help=help,
    )


def _port(text: str) -> int:
    return _number(text, "0 to 65535", 65535)


def _count(text: str) -> int:
    return _number(text, "0 or more")


def _number(text: str, expected: str, most: int = sys.maxsize) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= most):
        raise argparse.ArgumentTypeError(f"expected {expected}, received {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected 0 or more, received {text!r}")
    return seconds


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")
    return text.lower() == "true"


def _run_tf_serving(binary: str, args: argparse.Namespace) -> NoReturn:
    if args.host not in (None, EVERY_INTERFACE):
        raise UserError(
            f"--host: {binary} listens on {EVERY_INTERFACE} only, received {args.host}"
        )
    if args.token_file:
        raise UserError(f"--token_file: {binary} knows no tokens")
    if args.port == 0:
        raise UserError(f"--port: {binary} needs a fixed port, received 0")
    rest_port = REST_PORT if args.rest_api_port is None else args.rest_api_port
    _check_ports_differ(args.port, rest_port)
    flags = _tf_serving_flags(args)
    _check_port_is_free("--port", EVERY_INTERFACE, args.port)
    _check_port_is_free("--rest_api_port", EVERY_INTERFACE, rest_port)
    command = [binary, f"--port={args.port}", f"--rest_api_port={rest_port}", *flags]
    # The user may not know that this one is reachable from other machines.
    print(f"starting {binary} on {EVERY_INTERFACE}:{args.port}", file=sys.stderr)
    try:
        os.execv(binary, command)
    except OSError as error:
        raise UserError(f"cannot start {binary}: {error.strerror}") from error


def _tf_serving_flags(args: argparse.Namespace) -> list[str]:
    """What both servers know, checked, with paths as TF Serving wants them."""
    flags = [f"--grpc_max_threads={GRPC_THREADS}"]
    if args.model_config_file:
        text_config.read_models(args.model_config_file)
        flags.append(f"--model_config_file={args.model_config_file.resolve()}")
    else:
        newest_version(args.model_base_path)
        flags.append(f"--model_name={args.model_name}")
        flags.append(f"--model_base_path={args.model_base_path.resolve()}")
    if args.enable_batching:
        text_config.read_batching(args.batching_parameters_file)
        path = args.batching_parameters_file.resolve()
        flags += ["--enable_batching=true", f"--batching_parameters_file={path}"]
    if args.monitoring_config_file:
        text_config.read_monitoring(args.monitoring_config_file)
        flags.append(
            f"--monitoring_config_file={args.monitoring_config_file.resolve()}"
        )
    if args.ssl_config_file:
        text_config.read_ssl(args.ssl_config_file)
        flags.append(f"--ssl_config_file={args.ssl_config_file.resolve()}")
    for name in (
        "model_config_file_poll_wait_seconds",
        "file_system_poll_wait_seconds",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
    ):
        flags.append(f"--{name}={getattr(args, name):g}")
    if args.allow_version_labels_for_unavailable_models:
        flags.append("--allow_version_labels_for_unavailable_models=true")
    return flags


def _run_python_server(args: argparse.Namespace) -> None:
    host = args.host or LOOPBACK
    rest_port = args.rest_api_port or 0
    _check_ports_differ(args.port, rest_port)
    options = _options(args, host, rest_port)
    for model in options.models:
        newest_version(model.base_path)
    _check_port_is_free("--port", host, args.port)
    _check_port_is_free("--rest_api_port", host, rest_port)

    # Imported here because it brings TensorFlow: the mistakes above are answered at
    # once. Nothing of it becomes garbage: to look for some would take a seventh of the
    # import's time, and later keep requests waiting.
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
    token = None
    if args.token_file:
        from simcse_tf.server.security import read_token

        token = read_token(args.token_file)
    return Options(
        models=_models(args),
        host=host,
        port=args.port,
        rest_port=rest_port,
        batching=batching,
        metrics_path=_metrics_path(args.monitoring_config_file),
        ssl=text_config.read_ssl(args.ssl_config_file)
        if args.ssl_config_file
        else None,
        token=token,
        poll_seconds=args.file_system_poll_wait_seconds,
        model_config_file=args.model_config_file,
        model_config_poll_seconds=args.model_config_file_poll_wait_seconds
        if args.model_config_file
        else 0,
        labels_for_unavailable_models=args.allow_version_labels_for_unavailable_models,
        intra_op_threads=args.tensorflow_intra_op_parallelism,
        inter_op_threads=args.tensorflow_inter_op_parallelism,
    )


def _models(args: argparse.Namespace) -> tuple[ModelConfig, ...]:
    if not args.model_config_file:
        return (ModelConfig(args.model_name, args.model_base_path),)
    parsed = text_config.read_models(args.model_config_file)
    return tuple(map(ModelConfig.from_proto, parsed.model_config_list.config))


def _metrics_path(path: Path | None) -> str | None:
    if path is None:
        return text_config.DEFAULT_METRICS_PATH
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
        # As the server itself does: a port that a stopped server left in
        # TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            message = f"{flag}: cannot listen on {host}:{port}: {error.strerror}"
            raise UserError(message) from error


if __name__ == "__main__":
    cli.run(main)
