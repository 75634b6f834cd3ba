"""`pipeline index`: files of embeddings to an index, segment by segment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcse_tf.core.errors import UserError
from simcse_tf.indexing.candidates import KINDS
from simcse_tf.indexing.changes import check_new
from simcse_tf.indexing.vectors import DTYPES

SUMMARY = "build an index of embedded texts, as many segments at a time as processes"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `index`.

    Args:
        parser: The command's parser.

    Example:

    ```python
    add_flags(parser)
    ```
    """
    parser.add_argument(
        "--embeddings",
        required=True,
        nargs="+",
        metavar="PATTERN",
        help="Parquet files, such as 'embeddings/*.parquet'",
    )
    parser.add_argument(
        "--index",
        required=True,
        metavar="DIR",
        help="on a disk that all workers have",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of stored embeddings"
    )
    parser.add_argument(
        "--kind", choices=KINDS, help="of the search; default: by the number of rows"
    )
    parser.add_argument(
        "--metadata",
        nargs="*",
        metavar="COLUMN",
        help="those that come back with hits; default: all others",
    )
    parser.add_argument(
        "--replace", action="store_true", help="an index that is there already"
    )


def run(arguments: argparse.Namespace, beam: Sequence[str]) -> None:
    """Builds the index that the command line names.

    Args:
        arguments: What `add_flags` added.
        beam: As for `simcse_tf.pipelines.running.options_of`.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    run(parser.parse_args(argv), ["--runner=FnApiRunner"])
    ```
    """
    # An index is mapped to memory, and so are its files while it is built.
    for flag, path in (
        ("--index", arguments.index),
        *(("--embeddings", pattern) for pattern in arguments.embeddings),
    ):
        if "://" in path:
            raise UserError(
                f"{flag}: expected a path on a disk that all workers have, received "
                f"{path}"
            )
    check_new(arguments.index, arguments.replace)

    from simcse_tf.pipelines.index_building import build_in_segments

    manifest, again = build_in_segments(
        arguments.index,
        arguments.embeddings,
        beam,
        dtype=arguments.dtype,
        kind=arguments.kind,
        metadata=arguments.metadata,
        replace=arguments.replace,
    )
    told = f", {again} of them from an earlier try" if again else ""
    print(
        f"{arguments.index}: {manifest.live_rows} rows, {manifest.dimension} "
        f"dimensions, {manifest.dtype}, {manifest.candidates.kind}, in "
        f"{len(manifest.segments)} segments{told}"
    )
