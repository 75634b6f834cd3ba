"""`pipeline embed`: files to embeddings, shard by shard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

SUMMARY = "embed files with an exported or a served model, resumed shard by shard"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `embed`.

    Args:
        parser: The command's parser.

    Example:

    ```python
    add_flags(parser)
    ```
    """


def run(arguments: argparse.Namespace, beam: Sequence[str]) -> None:
    """Embeds the files that the command line names.

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
    raise NotImplementedError
