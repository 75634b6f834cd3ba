"""The exceptions that end a command with one line and an exit code."""


class UserError(ValueError):
    """A mistake in a file, a flag or a config, told in one line.

    Command lines print the message on stderr and exit with code 2; library
    users catch it as a `ValueError`. The message says what was expected, what
    was received and what to do.
    """


class Stopped(Exception):
    """A run was told to stop, and has saved all that it needs to go on.

    Command lines print the message on stderr and exit with code 75.
    """


class PeerLost(Exception):
    """Another worker of the cluster is gone, and this one cannot go on alone.

    Command lines print the message on stderr and exit with code 76.
    """
