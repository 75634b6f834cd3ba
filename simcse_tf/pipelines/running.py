"""Running a pipeline: Beam's options, what went wrong, what it counted."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from simcse_tf.core.cli import STOPPED
from simcse_tf.core.errors import UserError
from simcse_tf.pipelines.arguments import LOCAL_RUNNER

# How Beam reports an exception of ours: by the text of a process's traceback, or with
# more behind its message.
_RAISED = re.compile(
    r"^simcse_tf(?:\.\w+)+: (.*?)(?: \[while running '.*)?$", re.MULTILINE
)
_SEVERAL = "multi_processing"


def options_of(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options, all of them known.

    Args:
        flags: As `simcse_tf.pipelines.arguments.beam_flags` returns them. What stands
            behind `--` may be anything.

    Raises:
        UserError: If Beam does not know one of them, or it has a wrong value.

    Example:

    ```python
    options_of(["--runner=DataflowRunner", "--region=europe-west1"])
    ```
    """
    end = list(flags).index("--") if "--" in flags else len(flags)
    checked, unseen = list(flags[:end]), list(flags[end + 1 :])
    unknown: list[str] = []

    def check(parser: argparse.ArgumentParser) -> None:
        parser.error = _refuse  # type: ignore[method-assign]
        unknown.extend(parser.parse_known_args(checked)[1])

    PipelineOptions(checked).get_all_options(add_extra_args_fn=check)
    if unknown:
        raise UserError(
            f"{unknown[0]}: expected a flag of this command or of Beam (behind -- all "
            "is passed to Beam)"
        )
    return PipelineOptions([*checked, *unseen])


def run_pipeline(
    build: Callable[[beam.Pipeline], Any], options: PipelineOptions
) -> dict[str, int]:
    """Runs a pipeline to its end.

    Args:
        build: Applies the transforms to it.
        options: Of `options_of`.

    Returns:
        What its counters say, by their names.

    Raises:
        UserError: If a worker raised one, or there is no such runner.
        SystemExit: If one of several processes on this machine was killed, which
            Beam's runner would wait for without end.

    Example:

    ```python
    run_pipeline(lambda pipeline: pipeline | beam.Create([1]), options)  # {}
    ```
    """
    runner = options.get_all_options()["runner"]
    try:
        pipeline = beam.Pipeline(
            _local_runner(options) if runner == LOCAL_RUNNER else None, options
        )
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"--runner: {error}") from None
    try:
        with _ending_with_workers():
            build(pipeline)
            result: Any = pipeline.run()
            result.wait_until_finish()
    except Exception as error:
        if (message := _user_error_in(error)) is None:
            raise
        raise UserError(message) from None
    counters = result.metrics().query()["counters"]
    # Some runners have no result for a counter that nothing was added to.
    return {counter.key.metric.name: counter.result or 0 for counter in counters}


def _local_runner(options: PipelineOptions) -> PipelineRunner:
    """Beam's runner for one machine, with processes of ours where there are several."""
    direct = options.view_as(DirectOptions)
    environment = None
    if direct.direct_running_mode == _SEVERAL:
        # Else Beam would put its own processes in their place.
        direct.direct_running_mode = "in_memory"
        cores = os.cpu_count() or 1
        threads = max(1, cores // (direct.direct_num_workers or cores))
        work = f"from simcse_tf.pipelines.worker import work; work({threads})"
        # `exec`, so that no shell stands between. A traceback is in the answer as well.
        environment = SubprocessSDKEnvironment.from_command_string(
            f"exec {shlex.join([sys.executable, '-c', work])} 2>/dev/null"
        )
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    return fn_runner.FnApiRunner(
        environment,
        provision_info=fn_runner.ExtendedProvisionInfo(
            beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
        ),
    )


@contextmanager
def _ending_with_workers() -> Iterator[None]:
    """Ends this process where one of Beam's processes was killed.

    Beam's thread that waited for it ends with an exception, and all others go on
    waiting.
    """
    before = threading.excepthook

    def hook(about: threading.ExceptHookArgs) -> None:
        if about.thread is None or about.thread.name != "run_worker":
            # A connection that broke says it as well.
            if not issubclass(about.exc_type, grpc.RpcError):
                before(about)
            return
        print(
            f"a worker was lost ({about.exc_value}): the same command goes on where "
            "this one stopped",
            file=sys.stderr,
            flush=True,
        )
        os._exit(STOPPED)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _user_error_in(error: Exception) -> str | None:
    """The message of a `UserError` of a worker, wherever that was."""
    text = str(error)
    if isinstance(error, UserError):
        # In this process it is what was raised.
        text = f"{UserError.__module__}.{UserError.__name__}: {text}"
    found = _RAISED.search(text)
    return found and found[1]


def _refuse(message: str) -> NoReturn:
    raise UserError(message)
