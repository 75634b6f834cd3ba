"""What every `python -m simcse_tf...` command shares: parsing and exit codes."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from simcse_tf.core.errors import PeerLost, Stopped, UserError
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
INTERRUPTED = 130


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
        self.exit(USER_MISTAKE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command line and turns its outcome into an exit code.

    Args:
        main: Callable without arguments. May raise `UserError`.

    Raises:
        SystemExit: Always. Code 0 on success, 2 on a `UserError` (its message
            is printed on stderr as one line), 75 on `Stopped` and 76 on `PeerLost`
            (likewise), 130 on Ctrl-C. Any other exception is a bug and keeps its
            traceback.

    Example:

    ```python
    if __name__ == "__main__":
        run(main)
    ```
    """
    hide_startup_notices()
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USER_MISTAKE)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(STOPPED)
    except PeerLost as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(PEER_LOST)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(0)
