"""`python -m simcse_tf.index`: embeddings with their texts, to be searched."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import to_json
from simcse_tf.core.printing import one_line
from simcse_tf.data.file_formats import QUOTED, UNQUOTED
from simcse_tf.encoding.arguments import add_reading_flags
from simcse_tf.encoding.texts import FileTexts, load_sentences
from simcse_tf.evaluation.text_files import words
from simcse_tf.indexing.answers import as_json, as_text
from simcse_tf.indexing.candidates import KINDS
from simcse_tf.indexing.changes import add, build, check_new, remove
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.inputs import Inputs, source_of, source_to_add
from simcse_tf.indexing.manifest import Manifest, read_manifest
from simcse_tf.indexing.querying import load_query_encoder, search_texts
from simcse_tf.indexing.search import check_options
from simcse_tf.indexing.vectors import DTYPES


def main(argv: Sequence[str] | None = None) -> None:
    """Does what the command line says with an index.

    Args:
        argv: Optional strings. Defaults to `sys.argv` without the program's name.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    main(["build", "--index", "wiki.index", "--model", "m", "--input", "wiki.jsonl"])
    ```
    """
    arguments = _parser().parse_args(argv)
    arguments.command(arguments)


def _parser() -> Parser:
    parser = Parser("simcse_tf.index", description="An index of embedded texts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = _command(commands, "build", _build, "write an index")
    build.add_argument("--model", help="directory, preset or handle")
    add_reading_flags(build)
    build.add_argument(
        "--truncate-dim", type=int, metavar="N", help="keep the first N dimensions"
    )
    build.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of stored embeddings"
    )
    build.add_argument(
        "--kind", choices=KINDS, help="of the search; default: by the number of rows"
    )
    _add_input(build)
    build.add_argument(
        "--replace", action="store_true", help="an index that is there already"
    )
    adding = _command(commands, "add", _add, "add rows to an index")
    adding.add_argument(
        "--model", help="where the index' model is now; default: where it was"
    )
    _add_input(adding)
    adding.add_argument(
        "--replace", action="store_true", help="rows that have the id of a new one"
    )
    removing = _command(commands, "remove", _remove, "remove rows from an index")
    ids = removing.add_mutually_exclusive_group(required=True)
    ids.add_argument("--id", nargs="+", metavar="ID")
    ids.add_argument("--ids", metavar="FILE", help="an id a line")
    info = _command(commands, "info", _info, "say what an index is")
    info.add_argument("--json", action="store_true")
    info.add_argument(
        "--check", action="store_true", help="read all files and compare their hashes"
    )
    searching = _command(commands, "search", _search, "find the rows nearest to texts")
    searching.add_argument("text", nargs="*", metavar="TEXT")
    searching.add_argument(
        "--queries", metavar="FILE", help="a text a line or a row; -: stdin"
    )
    searching.add_argument(
        "--model", help="where the index' model is now; default: where it was"
    )
    searching.add_argument(
        "--prompt",
        metavar="NAME",
        help="the name of the model's prompt before each query; default: query",
    )
    searching.add_argument("--k", type=int, default=10, help="rows for each, at most")
    searching.add_argument(
        "--threshold", type=float, metavar="COSINE", help="the least of a hit"
    )
    searching.add_argument(
        "--where", metavar="CONDITION", help="on metadata, such as 'year >= 2000'"
    )
    searching.add_argument(
        "--exact", action="store_true", help="compare every row with every query"
    )
    searching.add_argument(
        "--effort",
        type=int,
        metavar="N",
        help="efSearch of hnsw, nprobe of ivfpq; default: as info says",
    )
    searching.add_argument(
        "--json", action="store_true", help="one object a line for each query"
    )
    return parser


def _command(
    commands: argparse._SubParsersAction[Parser], name: str, function: object, what: str
) -> Parser:
    parser = commands.add_parser(name, help=what, description=f"{what.capitalize()}.")
    parser.add_argument("--index", required=True, metavar="DIR")
    parser.set_defaults(command=function)
    return parser


def _add_input(parser: Parser) -> None:
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="a text a line, or .csv, .tsv, .jsonl or .parquet; also .gz and .zst",
    )
    parser.add_argument(
        "--embeddings",
        nargs="+",
        metavar="FILE",
        help=".parquet, as encode writes it, with texts and ids; or one .npy beside "
        "--input",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="of the texts; default: the only one, or text or sentence",
    )
    parser.add_argument(
        "--id-column",
        metavar="NAME",
        help="default: id or _id, or the row counted from 0",
    )
    parser.add_argument(
        "--metadata",
        nargs="*",
        metavar="NAME",
        help="columns that come back with hits, or none; default: all others",
    )
    parser.add_argument(
        "--quoting", choices=(QUOTED, UNQUOTED), help="of a .csv or .tsv input"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="at most; as for encode"
    )


def _inputs(arguments: argparse.Namespace) -> Inputs:
    return Inputs(
        input=arguments.input,
        embeddings=arguments.embeddings,
        text=arguments.column,
        id=arguments.id_column,
        metadata=arguments.metadata,
        quoting=arguments.quoting,
        batch_size=arguments.batch_size,
    )


def _build(arguments: argparse.Namespace) -> None:
    check_new(arguments.index, arguments.replace)
    source = source_of(
        _inputs(arguments),
        arguments.model,
        pooling=arguments.pooling,
        max_length=arguments.max_length,
        prompt=arguments.prompt,
        truncate_dim=arguments.truncate_dim,
    )
    manifest = build(
        arguments.index,
        source,
        dtype=arguments.dtype,
        kind=arguments.kind,
        replace=arguments.replace,
    )
    print(f"{arguments.index}: {_size(manifest)}")


def _add(arguments: argparse.Namespace) -> None:
    inputs = _inputs(arguments)
    added = add(
        arguments.index,
        lambda manifest: source_to_add(inputs, manifest, arguments.model),
        replace=arguments.replace,
    )
    replaced = f", {added.replaced} of them in place of old ones" * bool(added.replaced)
    print(
        f"{arguments.index}: {added.rows} rows added{replaced}: {_size(added.manifest)}"
    )


def _remove(arguments: argparse.Namespace) -> None:
    ids = arguments.id
    if ids is None:
        ids = [id.decode("utf-8", "replace") for id in FileTexts(arguments.ids)]
    manifest = remove(arguments.index, ids)
    print(f"{arguments.index}: {len(set(ids))} rows removed: {_size(manifest)}")


def _info(arguments: argparse.Namespace) -> None:
    directory = Path(arguments.index)
    manifest = read_manifest(directory)
    for file in manifest.files:
        file.check(directory, hashes=arguments.check)
    if arguments.json:
        about = {"rows": manifest.live_rows, **manifest.model_dump()}
        print(to_json(about, indent=2))
        return
    removed = manifest.removed.rows if manifest.removed else 0
    size = sum(file.size for file in manifest.files)
    kind = manifest.candidates.kind
    lines = {
        "rows": f"{manifest.live_rows} ({removed} removed)",
        "embeddings": f"{manifest.dimension} dimensions, {manifest.dtype}",
        "model": manifest.model,
        "fingerprint": manifest.fingerprint or "unknown",
        "pooling": manifest.pooling or "unknown",
        "max_length": manifest.max_length or "unknown",
        "prompt": to_json(manifest.prompt),
        "ids": "given" if manifest.ids_given else "counted",
        "texts": "yes" if manifest.has_texts else "no",
        "metadata": ", ".join(f"{n} ({t})" for n, t in manifest.columns.items()),
        "kind": f"{kind} over {manifest.candidates.rows} rows"
        if manifest.candidates.file
        else kind,
        "parameters": to_json(manifest.candidates.parameters),
        "size": f"{size / 1e6:.1f} MB in {len(manifest.files)} files",
        "written by": f"simcse_tf {manifest.version}, change {manifest.generation}",
    }
    for name, value in lines.items():
        print(one_line(f"{name}: {value}"))


def _search(arguments: argparse.Namespace) -> None:
    if bool(arguments.text) == bool(arguments.queries):
        raise UserError("expected TEXT... or --queries FILE, one of them")
    if arguments.k < 1:
        raise UserError(f"--k: expected 1 or more, received {arguments.k}")
    index = Index.open(arguments.index)
    options = {
        "threshold": arguments.threshold,
        "where": arguments.where,
        "effort": arguments.effort,
    }
    # Before a model is loaded.
    check_options(index, arguments.k, **options)
    texts = arguments.text or _queries(arguments.queries)
    encoder = load_query_encoder(index, arguments.model, arguments.prompt)
    found = search_texts(
        index, encoder, texts, arguments.k, exact=arguments.exact, **options
    )
    lines_of = as_json if arguments.json else as_text
    for text, hits in zip(texts, found, strict=True):
        for line in lines_of(text, hits):
            print(line)


def _queries(file: str) -> list[str]:
    if file != "-":
        return load_sentences(file)
    lines = sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()
    texts = [text for text in map(words, lines) if text]
    if not texts:
        raise UserError("--queries: stdin holds no text, expected one a line")
    return texts


def _size(manifest: Manifest) -> str:
    return (
        f"{manifest.live_rows} rows, {manifest.dimension} dimensions, "
        f"{manifest.dtype}, {manifest.candidates.kind}"
    )


if __name__ == "__main__":
    run(main)
