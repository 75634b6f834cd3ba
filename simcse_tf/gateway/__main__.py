"""The command line: `python -m simcse_tf.gateway`."""

from collections.abc import Sequence

from simcse_tf.core import cli
from simcse_tf.gateway import flags


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and answers requests until stopped."""
    options = flags.parse(argv)
    # Imported here because it takes a while: mistakes are reported at once.
    from simcse_tf.gateway.run import run

    run(options)


if __name__ == "__main__":
    cli.run(main)
