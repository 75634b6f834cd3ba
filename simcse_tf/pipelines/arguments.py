"""The flags that all pipelines have, and those that are Beam's. Needs no Beam."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from simcse_tf.core.errors import UserError

# Prism, which Beam's DirectRunner tries first, comes from a download and knows nothing
# of several processes.
LOCAL_RUNNER = "FnApiRunner"


def add_beam_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--runner` and `--processes`.

    Args:
        parser: The parser of a pipeline's command.

    Example:

    ```python
    add_beam_flags(parser)
    parser.parse_args(["--processes", "4"]).processes  # 4
    ```
    """
    group = parser.add_argument_group(
        "Beam", "Other flags are Beam's own; those behind -- are not looked at."
    )
    group.add_argument(
        "--runner",
        metavar="NAME",
        help="DirectRunner, which is this machine (the default), DataflowRunner, "
        "FlinkRunner, SparkRunner, ...",
    )
    group.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="the DirectRunner's; default: 1, in this process",
    )


def beam_flags(
    arguments: argparse.Namespace, unknown: Sequence[str], unseen: Sequence[str]
) -> list[str]:
    """Flags for `simcse_tf.pipelines.running.options_of`.

    Args:
        arguments: With what `add_beam_flags` added.
        unknown: Flags that the command does not know.
        unseen: What stood behind `--`.

    Raises:
        UserError: If they contradict each other.

    Example:

    ```python
    beam_flags(parser.parse_args(["--processes", "2"]), [], [])
    # ["--runner=FnApiRunner", "--direct_running_mode=multi_processing", ...]
    ```
    """
    runner, processes = arguments.runner, arguments.processes
    is_local = runner in (None, "DirectRunner", LOCAL_RUNNER)
    flags = [f"--runner={LOCAL_RUNNER if is_local else runner}"]
    if processes is not None:
        if processes < 1:
            raise UserError(f"--processes: expected 1 or more, received {processes}")
        if not is_local:
            raise UserError(
                f"--processes: expected the DirectRunner, received {runner}: its own "
                "flags say how many workers it has"
            )
        if processes > 1:
            flags += [
                "--direct_running_mode=multi_processing",
                f"--direct_num_workers={processes}",
            ]
    return [*flags, *unknown, *["--"][: len(unseen)], *unseen]


@contextmanager
def quiet_beam() -> Iterator[None]:
    """Keeps Beam from logging what its exceptions say as well.

    Example:

    ```python
    with quiet_beam():
        import apache_beam
    ```
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
