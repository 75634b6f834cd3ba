"""`python -m simcse_tf.demo`: a page that searches an index."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.core.token_file import read_token


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and shows the page until it is stopped."""
    arguments = _parser().parse_args(argv)
    token = None
    if arguments.token_file:
        token = read_token(arguments.token_file, "--token-file")
    if arguments.ca and not arguments.tls:
        raise UserError("--ca: expected --tls with it")
    asyncio.run(_show(arguments, token))


async def _show(arguments: argparse.Namespace, token: str | None) -> None:
    from simcse_tf.client import Tls
    from simcse_tf.web.opening import Source, open_indexes, open_sides
    from simcse_tf.web.serving import show

    sources = [Source(*wanted) for wanted in _wanted(arguments)]
    indexes = open_indexes(sources)
    tls = Tls(arguments.ca) if arguments.tls else None
    sides = await open_sides(sources, indexes, tls=tls, token=token)
    await show(sides, arguments.host, arguments.port)


def _wanted(
    arguments: argparse.Namespace,
) -> list[tuple[str, str | None, str | None]]:
    """Of each index the directory, the target and the model."""
    first = (arguments.target, arguments.model)
    second = (arguments.compare_target, arguments.compare_model)
    if not any(first):
        raise UserError(
            "expected --target, where the index's model is served, or --model, or both"
        )
    if not arguments.compare:
        if any(second):
            raise UserError("--compare-target, --compare-model: expected --compare")
        return [(arguments.index, *first)]
    # Without a model of its own, the second index is one of the same model.
    return [
        (arguments.index, *first),
        (arguments.compare, *(second if any(second) else first)),
    ]


def _parser() -> Parser:
    parser = Parser(
        "simcse_tf.demo",
        description="A page to search an index with, or two side by side.",
    )
    parser.add_argument("--index", required=True, metavar="DIR")
    parser.add_argument(
        "--target",
        type=_target,
        metavar="HOST:PORT[/NAME]",
        help="where the index's model is served (gRPC; default NAME: simcse)",
    )
    parser.add_argument(
        "--model", help="the same in this process; beside --target, to show tokens"
    )
    parser.add_argument("--compare", metavar="DIR", help="another index, side by side")
    parser.add_argument(
        "--compare-target",
        type=_target,
        metavar="HOST:PORT[/NAME]",
        help="where that one's model is; default: as for --index",
    )
    parser.add_argument("--compare-model", metavar="MODEL")
    parser.add_argument(
        "--host", default="127.0.0.1", help="name or address to listen on"
    )
    parser.add_argument(
        "--port", type=_port, default=8600, help="0 for a free one (default: 8600)"
    )
    parser.add_argument("--tls", action="store_true", help="encrypt the connections")
    parser.add_argument("--ca", metavar="PEM", help="authorities to trust")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with the servers' token"
    )
    return parser


def _target(text: str) -> str:
    address, _, name = text.partition("/")
    host, _, port = address.rpartition(":")
    if not host or "/" in name or not _is_port(port):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, received {text!r}")
    return text


def _port(text: str) -> int:
    if not _is_port(text):
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, received {text!r}")
    return int(text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= 65535


if __name__ == "__main__":
    run(main)
