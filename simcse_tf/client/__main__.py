"""The command line: `python -m simcse_tf.client`."""

import argparse
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from simcse_tf.client import Client, Retry, TextTooLong, Tls
from simcse_tf.client.counting import ROLES
from simcse_tf.client.protocol import EMBEDDINGS
from simcse_tf.core import cli
from simcse_tf.core.argument_types import target
from simcse_tf.core.atomic import atomic_write, check_room
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import to_json
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.core.printing import one_line
from simcse_tf.core.steady_lines import SteadyLines
from simcse_tf.core.token_file import read_token
from simcse_tf.core.vectors import npy_header

ONCE = 0.0  # seconds of retrying


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, calls the server and prints the answers."""
    parser = _parser()
    args = parser.parse_args(argv)
    mistake = _mistake(args)
    if mistake:
        parser.error(mistake)
    args.run(args)


def _mistake(args: argparse.Namespace) -> str | None:
    """Finds arguments that are right one by one and wrong together."""
    if not args.tls and (args.ca or args.cert or args.key):
        return "--ca, --cert, --key: expected --tls with them"
    if args.command == "similarity" and len(args.texts) < 2:
        return "similarity: expected at least two texts, received one"
    if args.command == "encode":
        if bool(args.texts) == bool(args.input):
            return "encode: expected TEXT... or --input FILE.txt, one of them"
        if bool(args.input) != bool(args.output):
            return "encode: expected --input and --output together"
        if not args.truncate and args.format not in ROLES:
            return f"encode: --no-truncate expects --format {', '.join(ROLES)}"
    return None


def _encode(args: argparse.Namespace) -> None:
    if args.input:
        _encode_file(args)
        return
    with _client(args) as client:
        texts = _as_bytes(args.texts)
        with _placed("TEXT {}"):
            embeddings = client.encode(texts, args.format, truncate=args.truncate)
    for text, embedding in zip(args.texts, embeddings, strict=True):
        print(json.dumps({"text": text, "embedding": embedding.tolist()}))


def _encode_file(args: argparse.Namespace) -> None:
    read = [args.input, args.ca, args.cert, args.key, args.token_file]
    output = output_file("--output", args.output, inputs=read)
    lines = _lines(args.input)
    # A wrong address is reported at once: retries begin once a server has answered.
    with _client(args) as client:
        none = client.no_embeddings(args.format)
    shape = (len(lines), none.shape[1])
    with (
        writing_output("--output", args.output),
        atomic_write(output) as path,
        path.open("wb") as file,
        _client(args, retry_seconds=Retry.seconds) as client,
    ):
        check_room(path.parent, max(math.prod(shape) * none.itemsize, 1))
        file.write(npy_header(shape, none.dtype))
        with _placed(f"{args.input}: line {{}}"):
            for rows in _answers(client, lines, args, none):
                file.write(rows.data)
    print(f"{args.output}: {len(lines)} texts, {none.dtype} of shape {shape}")


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Names a text that is too long as a user of the command line knows it."""
    try:
        yield
    except TextTooLong as error:
        raise UserError(
            f"{where.format(error.place + 1)}: expected at most {error.limit} tokens, "
            f"which the model reads, received more: shorten it, or leave out "
            f"--no-truncate"
        ) from None


def _answers(
    client: Client, lines: SteadyLines, args: argparse.Namespace, none: np.ndarray
) -> Iterator[np.ndarray]:
    """The rows of a file's lines, of the kind that `none` is."""
    from tqdm import tqdm

    with tqdm(total=len(lines), unit="sentence", desc="encoding") as bar:
        for rows in client.encode_stream(
            lines.read(), args.format, truncate=args.truncate
        ):
            if rows.dtype != none.dtype or rows.shape[1:] != none.shape[1:]:
                raise UserError(
                    f"expected {none.dtype} in {none.shape[1]} columns, received "
                    f"{rows.dtype} in {rows.shape[1]}: the server has loaded another "
                    "model"
                )
            yield np.ascontiguousarray(rows)
            bar.update(len(rows))


def _lines(path: Path) -> SteadyLines:
    try:
        return SteadyLines(path)
    except UserError as error:
        raise UserError(f"--input: {error}") from None


def _similarity(args: argparse.Namespace) -> None:
    texts = _as_bytes(args.texts)
    with _client(args) as client:
        scores = client.similarity(texts[0], texts[1:])
    # Arguments that are not valid UTF-8 are printed as they came.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    for other, score in zip(args.texts[1:], scores, strict=True):
        print(f"{score:.6f}\t{args.texts[0]}\t{other}")


def _tokens(args: argparse.Namespace) -> None:
    with _client(args) as client:
        counted = client.encode_counted(_as_bytes(args.texts), args.format)
    numbers = zip(counted.tokens.tolist(), counted.truncated.tolist(), strict=True)
    for text, (tokens, truncated) in zip(args.texts, numbers, strict=True):
        print(json.dumps({"text": text, "tokens": tokens, "truncated": truncated}))


def _search(args: argparse.Namespace) -> None:
    with _client(args) as client:
        found = client.search(_as_bytes(args.texts), args.k)
    for text, hits in zip(args.texts, found, strict=True):
        if args.json:
            print(to_json({"query": text, "hits": [hit._asdict() for hit in hits]}))
            continue
        print(one_line(text))
        for hit in hits:
            print(f"  {hit.cosine:.4f}  {one_line(hit.id)}  {one_line(hit.text)}")


def _status(args: argparse.Namespace) -> None:
    with _client(args) as client:
        for version, state in sorted(client.status().items(), reverse=True):
            print(f"{version}\t{state}")


def _metadata(args: argparse.Namespace) -> None:
    with _client(args) as client:
        print(json.dumps(client.metadata(), indent=2, sort_keys=True))


def _client(args: argparse.Namespace, retry_seconds: float = ONCE) -> Client:
    if args.retry is not None:
        retry_seconds = args.retry
    return Client(
        args.target,
        args.model,
        timeout=args.timeout,
        version=args.version,
        label=args.label,
        retry=Retry(seconds=retry_seconds),
        tls=Tls(args.ca, args.cert, args.key) if args.tls else None,
        token=read_token(args.token_file, "--token-file") if args.token_file else None,
    )


def _as_bytes(texts: list[str]) -> list[bytes]:
    # Arguments that are not valid UTF-8 are sent as they came.
    return [text.encode("utf-8", "surrogateescape") for text in texts]


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m simcse_tf.client",
        description="Ask a served model for embeddings, similarities or neighbours.",
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        type=target,
        required=True,
        help="the server's gRPC address",
    )
    parser.add_argument(
        "--model", default="simcse", help="the model's name (default: simcse)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=_version, help="default: the newest loaded")
    which.add_argument("--label", help="the version's label, such as stable")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=60.0,
        help="for one request (default: 60)",
    )
    parser.add_argument(
        "--retry",
        metavar="SECONDS",
        type=_seconds,
        help="how long to retry while the server is away or full "
        f"(default: {Retry.seconds:g} while encoding a file, else {ONCE:g})",
    )
    parser.add_argument("--tls", action="store_true", help="encrypt the connection")
    parser.add_argument(
        "--ca", metavar="PEM", help="authorities to trust (default: the well-known)"
    )
    parser.add_argument("--cert", metavar="PEM", help="the client's certificate")
    parser.add_argument("--key", metavar="PEM", help="the private key of --cert")
    parser.add_argument(
        "--token-file", metavar="FILE", type=Path, help="file with the server's token"
    )
    _add_commands(parser.add_subparsers(dest="command", required=True))
    return parser


def _add_commands(commands: "argparse._SubParsersAction[cli.Parser]") -> None:
    encode = commands.add_parser(
        "encode", help="embed TEXTs, one JSON object a line, or a file's lines"
    )
    encode.add_argument("texts", metavar="TEXT", nargs="*")
    encode.add_argument("--input", metavar="FILE.txt", type=Path)
    encode.add_argument(
        "--output", metavar="OUT.npy", type=Path, help="one row for a line of --input"
    )
    encode.add_argument("--format", choices=EMBEDDINGS, default="float32")
    encode.add_argument(
        "--no-truncate",
        dest="truncate",
        action="store_false",
        help="refuse a text with more tokens than the model reads (default: cut it)",
    )
    encode.set_defaults(run=_encode)
    tokens = commands.add_parser(
        "tokens", help="how many tokens the model reads of each TEXT, as JSON"
    )
    tokens.add_argument("texts", metavar="TEXT", nargs="+")
    tokens.add_argument("--format", choices=ROLES, default="float32")
    tokens.set_defaults(run=_tokens)
    similarity = commands.add_parser(
        "similarity", help="compare the first TEXT with each other one"
    )
    similarity.add_argument("texts", metavar="TEXT", nargs="+")
    similarity.set_defaults(run=_similarity)
    search = commands.add_parser(
        "search", help="the neighbours of each TEXT in the index inside the model"
    )
    search.add_argument("texts", metavar="TEXT", nargs="+")
    search.add_argument(
        "--k", type=int, default=10, help="neighbours of each text (default: 10)"
    )
    search.add_argument(
        "--json", action="store_true", help="one object a line for each TEXT"
    )
    search.set_defaults(run=_search)
    status = commands.add_parser("status", help="the state of each version")
    status.set_defaults(run=_status)
    metadata = commands.add_parser("metadata", help="the model's signatures, as JSON")
    metadata.set_defaults(run=_metadata)


def _version(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"expected a number, received {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, received {text!r}")
    return seconds


if __name__ == "__main__":
    cli.run(main)
