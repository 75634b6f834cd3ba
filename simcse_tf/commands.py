"""The installed commands: `simcse-train` is `python -m simcse_tf.train`, and so on.

Each imports its own door only, so that `simcse-client` does not wait for TensorFlow,
and ends with the exit codes of `core.cli.run`.
"""

from typing import NoReturn

from simcse_tf.core.cli import run


def train() -> NoReturn:
    """Runs `simcse-train`: trains from a JSON config."""
    from simcse_tf.train import main

    run(main)


def evaluate() -> NoReturn:
    """Runs `simcse-evaluate`: scores a model on STS and transfer tasks."""
    from simcse_tf.evaluate import main

    run(main)


def encode() -> NoReturn:
    """Runs `simcse-encode`: embeds a file."""
    from simcse_tf.encode import main

    run(main)


def export() -> NoReturn:
    """Runs `simcse-export`: writes a SavedModel, or checks one."""
    from simcse_tf.export import main

    run(main)


def serve() -> NoReturn:
    """Runs `simcse-serve`: serves exported models."""
    from simcse_tf.serve import main

    run(main)


def client() -> NoReturn:
    """Runs `simcse-client`: asks a server."""
    from simcse_tf.client.__main__ import main

    run(main)


def gateway() -> NoReturn:
    """Runs `simcse-gateway`: answers the OpenAI API with a model server's models."""
    from simcse_tf.gateway.__main__ import main

    run(main)


def sweep() -> NoReturn:
    """Runs `simcse-sweep`: trains and compares settings over seeds."""
    from simcse_tf.sweep import main

    run(main)


def report() -> NoReturn:
    """Runs `simcse-report`: puts a run on one page."""
    from simcse_tf.report import main

    run(main)


def retrieve() -> NoReturn:
    """Runs `simcse-retrieve`: shows each query's nearest sentences."""
    from simcse_tf.retrieve import main

    run(main)


def mine() -> NoReturn:
    """Runs `simcse-mine`: adds hard negatives to a file of pairs."""
    from simcse_tf.mine import main

    run(main)


def index() -> NoReturn:
    """Runs `simcse-index`: builds, changes and searches an index."""
    from simcse_tf.index import main

    run(main)


def demo() -> NoReturn:
    """Runs `simcse-demo`: shows a page that searches an index."""
    from simcse_tf.demo import main

    run(main)


def pipeline() -> NoReturn:
    """Runs `simcse-pipeline`: embeds files on one machine or many."""
    from simcse_tf.pipeline import main

    run(main)
