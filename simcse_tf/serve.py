"""Serves an exported model: with TF Serving where installed, else in Python."""

import argparse
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

from simcse_tf import cli
from simcse_tf.errors import UserError
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
    args = _parser().parse_args()
    binary = shutil.which(TF_SERVING)
    if binary:
        _run_tf_serving(binary, args)
    else:
        _run_python_server(args)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m simcse_tf.serve",
        description=(
            f"Serve the newest version in BASE_DIR: with {TF_SERVING} where it is on "
            f"the PATH, else with a Python server that speaks its gRPC protocol and "
            f"its RESTful API."
        ),
    )
    parser.add_argument(
        "--model_base_path",
        metavar="BASE_DIR",
        type=Path,
        required=True,
        help="directory with a numbered subdirectory for every version",
    )
    parser.add_argument(
        "--model_name", default="simcse", help="name in requests (default: simcse)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8500,
        help="gRPC port; the Python server takes any free one for 0 (default: 8500)",
    )
    parser.add_argument(
        "--rest_api_port",
        type=_port,
        help=f"REST port, 0 for none (default: none; {REST_PORT} with {TF_SERVING})",
    )
    parser.add_argument(
        "--host",
        help=f"address to listen on (default: {LOOPBACK}; {TF_SERVING} always "
        f"listens on {EVERY_INTERFACE})",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, received {text!r}")
    return int(text)


def _run_tf_serving(binary: str, args: argparse.Namespace) -> NoReturn:
    if args.host not in (None, EVERY_INTERFACE):
        raise UserError(
            f"--host: {binary} listens on {EVERY_INTERFACE} only, received {args.host}"
        )
    if args.port == 0:
        raise UserError(f"--port: {binary} needs a fixed port, received 0")
    rest_port = REST_PORT if args.rest_api_port is None else args.rest_api_port
    _check_ports_differ(args.port, rest_port)
    newest_version(args.model_base_path)
    _check_port_is_free("--port", EVERY_INTERFACE, args.port)
    _check_port_is_free("--rest_api_port", EVERY_INTERFACE, rest_port)
    command = [
        binary,
        f"--port={args.port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={args.model_name}",
        # TF Serving does not take a relative path.
        f"--model_base_path={args.model_base_path.resolve()}",
        f"--grpc_max_threads={GRPC_THREADS}",
    ]
    # The user may not know that this one is reachable from other machines.
    print(f"starting {binary} on {EVERY_INTERFACE}:{args.port}", file=sys.stderr)
    try:
        os.execv(binary, command)
    except OSError as error:
        raise UserError(f"cannot start {binary}: {error.strerror}") from error


def _run_python_server(args: argparse.Namespace) -> None:
    host = args.host or LOOPBACK
    rest_port = args.rest_api_port or 0
    _check_ports_differ(args.port, rest_port)
    version, path = newest_version(args.model_base_path)
    _check_port_is_free("--port", host, args.port)
    _check_port_is_free("--rest_api_port", host, rest_port)

    # Imported here because it brings TensorFlow: the mistakes above are
    # answered at once.
    from simcse_tf.server.run import run

    run(args.model_name, version, path, host, args.port, rest_port)


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
