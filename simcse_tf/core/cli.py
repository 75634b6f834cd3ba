"""What every `python -m simcse_tf...` command shares: parsing and exit codes."""

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from simcse_tf.core.errors import Diverged, PeerLost, Stopped, UserError
from simcse_tf.core.printing import one_line
from simcse_tf.core.startup_notices import hide_startup_notices

# TensorFlow's start-up notices would bury the one line that a user needs; they
# are read from the environment when TensorFlow is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# gRPC's own lines are about the connections of strangers, one each.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

USER_MISTAKE = 2
# EX_TEMPFAIL of sysexits.h: the same command with --resume resumes.
STOPPED = 75
PEER_LOST = 76
DIVERGED = 77
INTERRUPTED = 130
# As a shell tells of a process that SIGPIPE ended: 128 and the signal's number.
BROKEN_PIPE = 141


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers a wrong flag with one line.

    Example:

    ```python
    parser = Parser("simcse_tf.train", description="Train SimCSE from a JSON config.")
    ```
    """

    def error(self, message: str) -> NoReturn:
        """Prints the message on one line of stderr, and exits with code 2.

        Args:
            message: string. What `argparse` found wrong.

        Raises:
            SystemExit: Always.
        """
        line = one_line(f"{self.prog}: {message} (see {self.prog} --help)")
        self.exit(USER_MISTAKE, f"{line}\n")


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command line and turns its outcome into an exit code.

    Args:
        main: Callable without arguments. May raise `UserError`.

    Raises:
        SystemExit: Always. Code 0 on success, 2 on a `UserError` (its message
            is printed on stderr as one line), 75 on `Stopped`, 76 on `PeerLost` and
            77 on `Diverged` (likewise), 130 on Ctrl-C, 141 if stdout is a pipe that
            nobody reads any more, as in `... | head`. Any other exception is a bug and
            keeps its traceback.

    Example:

    ```python
    if __name__ == "__main__":
        run(main)
    ```
    """
    hide_startup_notices()
    _show_every_character()
    warnings.formatwarning = _warning
    sys.exit(_written(_exit_code(main)))


def _exit_code(main: Callable[[], None]) -> Any:
    try:
        main()
    except SystemExit as ended:
        return ended.code
    except KeyboardInterrupt:
        return _tell("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        # Files are written with an answer of their own; what is left is `print`.
        if error.errno != errno.ENOSPC:
            raise
        return _cannot_write(error)
    except Stopped as stopped:
        return _tell(str(stopped), STOPPED)
    except UserError as error:
        return _tell(f"error: {error}", USER_MISTAKE)
    except PeerLost as error:
        return _tell(f"error: {error}", PEER_LOST)
    except Diverged as error:
        return _tell(f"error: {error}", DIVERGED)
    return 0


def _tell(message: str, code: int) -> int:
    with suppress(OSError):
        print(one_line(message), file=sys.stderr)
    return code


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    return f"warning: {one_line(str(message))}\n"


def _cannot_write(error: OSError) -> int:
    return _tell(f"error: cannot write to stdout: {error.strerror}", USER_MISTAKE)


def _show_every_character() -> None:
    # A file's name may hold bytes that are no text, and a terminal may know ASCII
    # alone: what cannot be shown stands as an escape.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _written(code: Any) -> Any:
    """The exit code once all of stdout is written: 141 or 2 where it cannot be."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = code or BROKEN_PIPE
    except OSError as error:
        code = code or _cannot_write(error)
    else:
        return code
    # What is left in the buffer would be written again at the end, with a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
