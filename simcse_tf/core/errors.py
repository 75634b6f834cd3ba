"""The exceptions that end a command with one line and an exit code."""


class UserError(ValueError):
    """A mistake in a file, a flag or a config, reported in one line.

    Command lines print the message on stderr and exit with code 2; library
    users catch it as a `ValueError`. The message says what was expected, what
    was received and what to do.

    Example:

    ```python
    raise UserError(f"--k: expected 1 or more, received {k}")
    ```
    """


class NotFinite(UserError):
    """NaN or infinity among numbers that must be finite, such as embeddings.

    Example:

    ```python
    raise NotFinite("embeddings, row 3: expected finite numbers, received nan")
    ```
    """


class Stopped(Exception):
    """A run received SIGTERM, and has saved all that it needs to resume.

    Command lines print the message on stderr and exit with code 75.

    Example:

    ```python
    raise Stopped("stopped by SIGTERM after step 400: resume with --resume")
    ```
    """


class PeerLost(Exception):
    """Another worker of the cluster is gone, and this one cannot continue alone.

    Command lines print the message on stderr and exit with code 76.

    Example:

    ```python
    raise PeerLost("worker 1 at 10.0.0.2:2222 is gone")
    ```
    """


class Diverged(Exception):
    """A run's numbers are no longer finite: no step after this one can learn.

    Command lines print the message on stderr and exit with code 77.

    Example:

    ```python
    raise Diverged("diverged at step 12: the loss is nan")
    ```
    """
