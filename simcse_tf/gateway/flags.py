"""The flags of `python -m simcse_tf.gateway`."""

import argparse
import socket
from collections.abc import Sequence
from pathlib import Path

from simcse_tf.client import Tls
from simcse_tf.core.argument_types import port, positive, seconds, target
from simcse_tf.core.cli import Parser
from simcse_tf.core.errors import UserError
from simcse_tf.core.observing import Observing, add_flags
from simcse_tf.core.token_file import read_token
from simcse_tf.gateway.options import Options
from simcse_tf.server import configs_pb2, text_config
from simcse_tf.server.process import warn_if_open_to_all


def parse(argv: Sequence[str] | None = None) -> Options:
    """Parses the command line, and reads the files that it names.

    Args:
        argv: The arguments; `sys.argv` without the program's name by default.

    Raises:
        SystemExit: A flag is wrong (code 2), or help was asked for (code 0).
        UserError: A file is wrong.

    Example:
    ```python
    parse(["--target", "127.0.0.1:8500"]).port  # 8080
    ```
    """
    parser = _parser()
    args = parser.parse_args(argv)
    files = (args.target_ca, args.target_cert, args.target_key)
    if any(files) and not args.target_tls:
        parser.error(
            "--target_ca, --target_cert, --target_key: expected --target_tls with them"
        )
    models = tuple(dict.fromkeys(args.model or ("simcse",)))
    if "" in models:
        parser.error("--model: expected a name, received none")
    if not args.port:
        parser.error("--port: expected 1 to 65535, received 0")
    options = Options(
        target=args.target,
        models=models,
        label=args.label,
        target_tls=Tls(*files) if args.target_tls else None,
        target_token=_token(args.target_token_file, "--target_token_file"),
        timeout=args.timeout,
        retry=args.retry,
        max_batch_size=args.max_batch_size,
        max_texts_in_flight=args.max_texts_in_flight,
        host=args.host,
        port=args.port,
        ssl=_ssl(args.ssl_config_file),
        token=_token(args.token_file, "--token_file"),
        rest_max_connections=args.rest_max_connections,
        rest_max_body_bytes=args.rest_max_body_bytes,
        observing=Observing.of(args),
    )
    if not (options.token or options.ssl):
        _warn_if_open_to_all(options.host)
    return options


def _warn_if_open_to_all(host: str) -> None:
    try:
        warn_if_open_to_all(host, "gateway")
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host: no such address: {host}: {error}") from None


def _token(path: Path | None, flag: str) -> str | None:
    return read_token(path, flag) if path else None


def _ssl(path: Path | None) -> configs_pb2.SSLConfig | None:
    return text_config.read_ssl(path) if path else None


def _parser() -> Parser:
    parser = Parser(
        prog="python -m simcse_tf.gateway",
        description="Answer the OpenAI API's requests for embeddings with the models "
        "of a TF Serving, or of the Python server.",
    )
    _add_target_flags(parser.add_argument_group("the model server"))
    _add_network_flags(parser.add_argument_group("the gateway itself"))
    add_flags(parser.add_argument_group("logs and traces"))
    return parser


def _add_target_flags(group: argparse._ArgumentGroup) -> None:
    defaults = Options
    group.add_argument(
        "--target",
        metavar="HOST:PORT",
        type=target,
        required=True,
        help="its gRPC address",
    )
    group.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        help="a model's name there; may be given several times (default: simcse)",
    )
    group.add_argument(
        "--label", help="of the versions, such as stable (default: the newest version)"
    )
    group.add_argument(
        "--max_batch_size",
        metavar="N",
        type=positive,
        default=defaults.max_batch_size,
        help="most texts in a request to it; not more than in its batching.config "
        f"(default: {defaults.max_batch_size})",
    )
    group.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=defaults.timeout,
        help="seconds that a request to it may take, and that it may take to be ready "
        f"at the start (default: {defaults.timeout:g})",
    )
    group.add_argument(
        "--retry",
        metavar="S",
        type=seconds,
        default=defaults.retry,
        help="seconds for which a request is sent again while it is away or full "
        f"(default: {defaults.retry:g})",
    )
    group.add_argument(
        "--target_tls", action="store_true", help="encrypt the connection to it"
    )
    group.add_argument(
        "--target_ca",
        metavar="PEM",
        help="authorities to trust (default: the well-known)",
    )
    group.add_argument(
        "--target_cert", metavar="PEM", help="the gateway's certificate as its client"
    )
    group.add_argument(
        "--target_key", metavar="PEM", help="the private key of --target_cert"
    )
    group.add_argument(
        "--target_token_file", metavar="FILE", type=Path, help="file with its token"
    )


def _add_network_flags(group: argparse._ArgumentGroup) -> None:
    defaults = Options
    group.add_argument(
        "--host",
        default=defaults.host,
        help=f"address to listen on (default: {defaults.host})",
    )
    group.add_argument(
        "--port",
        type=port,
        default=defaults.port,
        help=f"port to listen on (default: {defaults.port})",
    )
    group.add_argument(
        "--token_file",
        metavar="FILE",
        type=Path,
        help="file with the API key; requests without it are refused",
    )
    group.add_argument(
        "--ssl_config_file",
        metavar="FILE",
        type=Path,
        help="TLS: key and certificate, in the form of TF Serving",
    )
    for name, what in (
        ("max_texts_in_flight", "texts of all clients at a time; more are refused"),
        ("rest_max_connections", "connections, a quarter of them of one address"),
        ("rest_max_body_bytes", "bytes of a request's body"),
    ):
        default = getattr(defaults, name)
        group.add_argument(
            f"--{name}",
            metavar="N",
            type=positive,
            default=default,
            help=f"most {what} (default: {default})",
        )
