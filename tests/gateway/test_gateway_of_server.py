"""The gateway in front of the Python server: both answer with the same embeddings."""

import numpy as np
import pytest
from support.counting_model import expected, load
from support.gateways import ask, call, embeddings_of, gateway
from support.servers import MIXED_TEXTS, server_in_thread

TEXTS = [text.decode("utf-8", "replace") for text in MIXED_TEXTS * 40]


@pytest.mark.slow
def test_gateway_and_server_answer_alike(tmp_path):
    servable = load(tmp_path)
    with (
        server_in_thread(servable, token="other") as server,
        gateway(server.target, max_batch_size=8, target_token="other") as it,
    ):
        answer = ask(it.port, TEXTS, encoding_format="base64")
        np.testing.assert_array_equal(embeddings_of(answer), expected(servable, TEXTS))
        assert ask(server.rest_port, TEXTS, encoding_format="base64").value == (
            answer.value
        )
        gateways, servers = (
            call(port, "GET", "/info").value["models"]
            for port in (it.port, server.rest_port)
        )
        assert gateways == servers
