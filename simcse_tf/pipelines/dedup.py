"""`pipeline dedup`: groups of duplicates among embedded texts, and what is kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcse_tf.core.errors import UserError

SUMMARY = "group near duplicates, and write what stays"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `dedup`.

    Args:
        parser: The command's parser.

    Example:

    ```python
    add_flags(parser)
    ```
    """
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="PATTERN",
        help="Parquet files of embeddings, such as 'embeddings/*.parquet'",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="gets groups-*.parquet, kept-*.parquet and summary.json",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.95,
        help="cosine from which on a text is near another",
    )
    parser.add_argument(
        "--cells",
        type=int,
        default=8,
        help="in how many cells each text is compared: more of them miss less",
    )


def run(arguments: argparse.Namespace, beam: Sequence[str]) -> None:
    """Finds the duplicates in the files that the command line names.

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
    if not 0 < arguments.threshold <= 1:
        raise UserError(
            f"--threshold: expected above 0 and up to 1, received {arguments.threshold}"
        )
    if arguments.cells < 1:
        raise UserError(f"--cells: expected 1 or more, received {arguments.cells}")

    from simcse_tf.pipelines import duplicates

    counters = duplicates.find(
        arguments.input, arguments.output, arguments.threshold, arguments.cells, beam
    )
    print(f"{arguments.output}: {_told(counters)}")


def _told(counters: dict[str, int]) -> str:
    parts = [
        f"{counters['rows']} rows",
        f"{counters['repeated_texts']} repeat a text",
        f"{counters['near_duplicates']} are near another",
        f"{counters['kept']} kept",
    ]
    if counters["bad_rows"]:
        parts.append(f"{counters['bad_rows']} bad ones in dead-letters-*.jsonl")
    missed, pairs = counters["sampled_pairs_missed"], counters["sampled_pairs"]
    return f"{', '.join(parts)}; of {pairs} near pairs in a sample {missed} were missed"
