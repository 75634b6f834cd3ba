"""`python -m simcse_tf.serve`: exported models, by TF Serving or by a Python server."""

import shutil
from collections.abc import Sequence

from simcse_tf.core.cli import run
from simcse_tf.server import flags, launch


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and serves until stopped."""
    args = flags.parse(argv)
    binary = shutil.which(launch.TF_SERVING)
    if binary:
        launch.run_tf_serving(binary, args)
    else:
        launch.run_python_server(args)


if __name__ == "__main__":
    run(main)
