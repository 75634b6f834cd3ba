"""An index in memory and a model without weights, for the page."""

import hashlib
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from simcse_tf.search.exact import top_k

DIM = 16


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
        for word in text.lower().split() or [""]:
            raw = (salt + word).encode("utf-8", "surrogatepass")
            seed = int.from_bytes(hashlib.sha256(raw).digest()[:4], "big")
            row += np.random.default_rng(seed).normal(size=DIM)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


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
        self.manifest = SimpleNamespace(model="test/model", kind="flat", columns=columns)

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
