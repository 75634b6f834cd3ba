"""`pipeline mine`: hard negatives for embedded pairs, those of `simcse_tf.mine`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcse_tf.search.mining_arguments import add_rule_flags, rule_of

SUMMARY = "add hard negatives to embedded pairs, by exact search"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `mine`.

    Args:
        parser: The command's parser.

    Example:

    ```python
    add_flags(parser)
    ```
    """
    for side, about, required in (
        ("anchors", "Parquet files of anchors' embeddings, with texts", True),
        ("positives", "the same of their positives: a pair has one id", True),
        ("candidates", "where negatives come from; default: the positives", False),
    ):
        parser.add_argument(
            f"--{side}", required=required, nargs="+", metavar="PATTERN", help=about
        )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="gets mined-*.jsonl and summary.json",
    )
    add_rule_flags(parser)


def run(arguments: argparse.Namespace, beam: Sequence[str]) -> None:
    """Mines for the pairs that the command line names.

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
    rule = rule_of(arguments)

    from simcse_tf.pipelines.mining import Inputs, mine

    inputs = Inputs(arguments.anchors, arguments.positives, arguments.candidates or ())
    counters = mine(inputs, arguments.output, rule, beam)
    told = (
        f"{counters['pairs']} rows, {counters['full']} with {rule.negatives} hard "
        f"negatives, {counters['without']} with none"
    )
    if counters["bad_rows"]:
        told += f"; {counters['bad_rows']} bad ones in dead-letters-*.jsonl"
    print(f"{arguments.output}: {told}")
