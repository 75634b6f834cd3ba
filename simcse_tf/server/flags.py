"""The flags of `python -m simcse_tf.serve`: TF Serving's, and a few of ours."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from simcse_tf.core import observing
from simcse_tf.core.argument_types import boolean, count, port, positive, seconds
from simcse_tf.core.cli import Parser
from simcse_tf.server import text_config
from simcse_tf.server.launch import EVERY_INTERFACE, LOOPBACK, REST_PORT, TF_SERVING
from simcse_tf.server.options import REST_BODY_BYTES, REST_CONNECTIONS


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line.

    Args:
        argv: The arguments; `sys.argv` without the program's name by default.

    Returns:
        One attribute for each flag, under TF Serving's name.

    Raises:
        SystemExit: A flag is wrong (code 2), or help was asked for (code 0).

    Example:
    ```python
    parse(["--model_base_path", "exports/simcse"]).port  # 8500
    ```
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if (args.model_base_path is None) == (args.model_config_file is None):
        parser.error("expected one of --model_base_path and --model_config_file")
    return args


def _parser() -> Parser:
    parser = Parser(
        prog="python -m simcse_tf.serve",
        description=(
            f"Serve the versions in BASE_DIR: with {TF_SERVING} where it is on "
            f"the PATH, else with a Python server that speaks its gRPC protocol and "
            f"its RESTful API. All flags but --host, --token_file, "
            f"--rest_max_connections, --rest_max_body_bytes and those of logs and "
            f"traces are TF Serving's."
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
        type=seconds,
        default=0,
        help="seconds between reads of that file; 0 reads it once (default: 0)",
    )
    models.add_argument(
        "--file_system_poll_wait_seconds",
        metavar="S",
        type=seconds,
        default=1,
        help="seconds between looks for new versions; 0 looks once (default: 1)",
    )
    _add_boolean(
        models,
        "--allow_version_labels_for_unavailable_models",
        default=False,
        help="labels may name versions that are not loaded (default: false)",
    )
    _add_network_flags(parser.add_argument_group("network"))
    _add_work_flags(parser.add_argument_group("work"))
    observing.add_flags(parser.add_argument_group("logs and traces (Python server)"))
    return parser


def _add_network_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--port",
        type=port,
        default=8500,
        help="gRPC port; with 0 the Python server takes a free one (default: 8500)",
    )
    group.add_argument(
        "--rest_api_port",
        type=port,
        help=f"REST port, 0 for none (default: none; {REST_PORT} with {TF_SERVING})",
    )
    group.add_argument(
        "--rest_max_connections",
        metavar="N",
        type=positive,
        help=f"most connections to the REST port, a quarter of them of one address "
        f"(Python server; default: {REST_CONNECTIONS}, or what the descriptors allow)",
    )
    group.add_argument(
        "--rest_max_body_bytes",
        metavar="N",
        type=positive,
        help=f"largest body of a REST request, as sent and without its compression "
        f"(Python server; default: {REST_BODY_BYTES})",
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
        help=f"TLS: key and certificate; {TF_SERVING} uses them for gRPC only, the "
        f"Python server for REST too",
    )
    group.add_argument(
        "--token_file",
        metavar="FILE",
        type=Path,
        help="refuse requests without `authorization: Bearer TOKEN` (Python server)",
    )
    group.add_argument(
        "--grpc_channel_arguments",
        metavar="NAME=VALUE,...",
        default="",
        help="gRPC's own settings, such as grpc.max_receive_message_length=-1 (bytes; "
        "default of the Python server: 8388608)",
    )
    group.add_argument(
        "--monitoring_config_file",
        metavar="FILE",
        type=Path,
        default=text_config.DEFAULT_MONITORING,
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
    # Batches and their buckets run side by side, so an op needs no threads of its own:
    # with two, each of its small products waits for another thread to wake up.
    for name, what, threads in (
        ("intra", "within an op", 1),
        ("inter", "between ops", 0),
    ):
        group.add_argument(
            f"--tensorflow_{name}_op_parallelism",
            metavar="N",
            type=count,
            default=threads,
            help=f"TensorFlow's threads {what}; 0 for one a CPU (default: {threads})",
        )


def _add_boolean(
    group: argparse._ArgumentGroup, flag: str, default: bool, help: str
) -> None:
    """Adds `--flag`, `--flag=true` or `--flag=false`, as TF Serving reads them."""
    group.add_argument(
        flag,
        metavar="BOOL",
        type=boolean,
        nargs="?",
        const=True,
        default=default,
        help=help,
    )
