"""Servers of test models for the client."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.servers import server_in_thread

from simcse_tf.server import text_config
from simcse_tf.server.servable import Servable


@pytest.fixture(scope="module")
def serve():
    """Serves a version in this process, with the batching of the command."""
    batching = text_config.read_batching(text_config.DEFAULT_BATCHING)
    with ThreadPoolExecutor(1) as executor:
        yield lambda path: server_in_thread(
            Servable(int(path.name), path, batching, executor)
        )
