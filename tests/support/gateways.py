"""A gateway in this process, and what its clients do."""

import asyncio
import base64
import contextlib
import http.client
import json
import ssl
import threading
import time
from types import SimpleNamespace

import numpy as np

from simcse_tf.gateway.options import Options
from simcse_tf.gateway.run import answer
from support.ports import free_port

SECONDS = 30


@contextlib.contextmanager
def gateway(target, wait=True, **settings):
    """Starts one; yields its port, and what it raised once it ended by itself."""
    options = Options(target=target, port=free_port(), **settings)
    stopping, loop = asyncio.Event(), asyncio.new_event_loop()
    it = SimpleNamespace(port=options.port, error=None, tls=options.ssl is not None)

    def run():
        try:
            loop.run_until_complete(answer(options, stopping.wait()))
        except Exception as error:
            it.error = error

    it.stop = lambda: loop.call_soon_threadsafe(stopping.set)
    it.thread = threading.Thread(target=run)
    it.thread.start()
    try:
        if wait:
            until(lambda: it.error or is_ready(it.port, it.tls))
        yield it
    finally:
        if it.thread.is_alive():
            it.stop()
        it.thread.join(SECONDS)
        assert not it.thread.is_alive()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def until(condition):
    """Waits until something is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_ready(port, tls=False):
    try:
        return call(port, "GET", "/health", tls=tls).status == 200
    except OSError:
        return False


def call(port, method, path, body=None, headers=None, tls=False):
    """One HTTP request; the answer's status, headers, text and value."""
    if tls:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    is_json = response.headers["Content-Type"] == "application/json"
    return SimpleNamespace(
        status=response.status,
        headers=response.headers,
        text=text.decode(),
        value=json.loads(text) if is_json and text else None,
    )


def ask(port, texts, headers=None, tls=False, **fields):
    """Asks for embeddings of the model `simcse`, unless `fields` says otherwise."""
    body = json.dumps({"model": "simcse", "input": texts, **fields})
    return call(port, "POST", "/v1/embeddings", body, headers, tls)


def embeddings_of(answered):
    """The rows of an answer, which must be one, in order."""
    assert answered.status == 200, answered.text
    data = answered.value["data"]
    assert [one["index"] for one in data] == [*range(len(data))]
    rows = [one["embedding"] for one in data]
    if isinstance(rows[0], str):
        return np.array([np.frombuffer(base64.b64decode(row), "<f4") for row in rows])
    return np.array(rows, np.float32)
