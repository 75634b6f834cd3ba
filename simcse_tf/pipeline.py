"""`python -m simcse_tf.pipeline`: embeddings of files, on one machine or many."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from simcse_tf.core.cli import Parser, run
from simcse_tf.core.extras import require
from simcse_tf.pipelines import dedup, embed, index, mine
from simcse_tf.pipelines.arguments import add_beam_flags, beam_flags, quiet_beam


class Command(Protocol):
    """A module of `simcse_tf.pipelines` that is a command. Importing it needs no Beam.

    Example:

    ```python
    COMMANDS["embed"].SUMMARY
    ```
    """

    SUMMARY: str

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Adds the flags that are the command's own."""
        ...

    def run(self, arguments: argparse.Namespace, beam: Sequence[str]) -> None:
        """Does what the flags say; `beam` are flags for `running.options_of`."""
        ...


COMMANDS: Mapping[str, Command] = {
    "dedup": dedup,
    "embed": embed,
    "index": index,
    "mine": mine,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the pipeline that the command line names.

    Flags that are none of the command's own are Beam's, such as `--temp_location`. What
    stands behind `--` is passed to Beam as it is.

    Args:
        argv: Optional strings. Defaults to `sys.argv` without the program's name.

    Raises:
        UserError: If something that the user gave is wrong.

    Example:

    ```python
    main(["embed", "--saved-model", "served", "--input", "*.txt", "--output", "out"])
    ```
    """
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    arguments, unknown = _parser().parse_known_args(given[:end])
    beam = beam_flags(arguments, unknown, given[end + 1 :])
    require("apache_beam", extra="beam")
    with quiet_beam():
        COMMANDS[arguments.command].run(arguments, beam)


def _parser() -> Parser:
    parser = Parser("simcse_tf.pipeline", description="Pipelines of Apache Beam.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        # A flag of Beam must not be taken for the beginning of one of ours.
        of_command = commands.add_parser(
            name, help=command.SUMMARY, description=command.SUMMARY, allow_abbrev=False
        )
        command.add_flags(of_command)
        add_beam_flags(of_command)
    return parser


if __name__ == "__main__":
    run(main)
