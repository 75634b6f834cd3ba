"""An index in memory, a model without weights, and the page over both."""

import asyncio
import contextlib
import functools
import hashlib
import re
import threading
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from aiohttp import web

from simcse_tf.search.exact import top_k
from simcse_tf.web.app import make_app
from simcse_tf.web.models import Away
from simcse_tf.web.sides import Side
from simcse_tf.web.tokens import Reading, Token

DIM = 128
SECONDS = 30


class Hit(NamedTuple):
    row: int
    id: str
    text: str
    cosine: float
    metadata: dict


def embed(texts, salt=""):
    """Sums of vectors of words: texts with words in common are near each other."""
    rows = np.zeros((len(texts), DIM), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()) or [""]:
            row += _of_word(salt + word)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@functools.cache
def _of_word(word):
    raw = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(raw[:4], "big")).normal(size=DIM)


class MemoryIndex:
    """What the page asks of an index, for a few texts."""

    def __init__(self, texts, metadata=None, salt="", vectors=None):
        self._texts = list(texts)
        self._metadata = metadata or [{} for _ in self._texts]
        self._vectors = embed(texts, salt) if vectors is None else vectors
        self.rows = len(self._texts)
        self.dimension = self._vectors.shape[1]
        self.live = np.ones(self.rows, bool)
        columns = {
            name: type(value).__name__
            for row in self._metadata
            for name, value in row.items()
        }
        self.manifest = SimpleNamespace(
            model="test/model",
            columns=columns,
            live_rows=self.rows,
            candidates=SimpleNamespace(kind="flat"),
        )

    def texts(self, rows):
        return [self._texts[row] for row in rows]

    def vectors(self, rows):
        return self._vectors[rows]

    def search(self, queries, k, *, threshold=None, where=None, exact=False):
        indices, cosines = top_k(queries, self._vectors, k)
        return [
            [
                Hit(row, str(row), self._texts[row], cosine, self._metadata[row])
                for row, cosine in zip(of_query.tolist(), values.tolist(), strict=True)
                if threshold is None or cosine >= threshold
            ]
            for of_query, values in zip(indices, cosines, strict=True)
        ]


class WordModel:
    """`embed` as a model of the page. It reads so many words of a text."""

    def __init__(self, salt="", longest=8):
        self.salt = salt
        self.longest = longest
        self.away = ""
        self.seconds = 0.0
        self.asked = []
        self.cancelled = []

    async def embed(self, texts, role):
        self.asked.append((role, texts))
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(texts)
            raise
        if self.away:
            raise Away(self.away)
        return embed(texts, self.salt)

    async def reading(self, text):
        words = [word.encode("utf-8", "replace").decode() for word in text.split()]
        tokens = [Token(word, i, "text") for i, word in enumerate(words, start=3)]
        tokens = [Token("[CLS]", 1, "special"), *tokens[: self.longest]]
        tokens += [Token("[SEP]", 2, "special")]
        return Reading(tokens, max(0, len(words) - self.longest), True)

    async def close(self):
        self.away = "closed"


def side_of(texts, name="one", salt="", metadata=None, **options):
    return Side(MemoryIndex(texts, metadata, salt), WordModel(salt, **options), name)


@contextlib.contextmanager
def page_over(*sides, port=0):
    """Shows the page from a thread; yields its URL."""
    loop = asyncio.new_event_loop()
    started, stopping = threading.Event(), asyncio.Event()
    url = []

    async def show():
        runner = web.AppRunner(make_app(sides), handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        url.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await stopping.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(show(),))
    thread.start()
    try:
        assert started.wait(SECONDS)
        yield url[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(SECONDS)
        assert not thread.is_alive()
