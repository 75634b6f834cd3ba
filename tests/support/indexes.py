"""Indexes of texts whose embeddings need no model."""

import hashlib

import numpy as np

from simcse_tf.core.vectors import l2_normalize
from simcse_tf.encoding.records import Record
from simcse_tf.indexing.sources import Origin

DIMENSION = 16


def vectors_of(texts, dimension=DIMENSION):
    """A unit vector for each text, equal for equal ones; float32 `(n, dimension)`."""
    seeds = [hashlib.sha256(text.encode()).digest()[:4] for text in texts]
    rows = [
        np.random.default_rng(int.from_bytes(seed, "big")).standard_normal(dimension)
        for seed in seeds
    ]
    return l2_normalize(np.array(rows).reshape(len(texts), dimension))


class Texts:
    """A source of an index: texts, or pairs of id and text, or these and metadata."""

    untyped = False
    key = "key"

    def __init__(self, rows, name="rows", has_texts=True, **origin):
        rows = [
            (str(n), row) if isinstance(row, str) else row for n, row in enumerate(rows)
        ]
        self._rows = [(*row, {}) if len(row) == 2 else row for row in rows]
        self.ids_given = True
        self.name = name
        self.has_texts = has_texts
        about = {"model": "hash", "fingerprint": "f" * 64, "dimension": DIMENSION}
        self.origin = Origin(**{**about, **origin})

    def records(self):
        for id, text, metadata in self._rows:
            yield Record(id, text.encode(), metadata)

    def embeddings(self, texts, start, rows, advance):
        # Small blocks: a kill falls between them.
        for first in range(start, rows, 4):
            block = [text for _, text, _ in self._rows[first : first + 4]]
            yield vectors_of(block, self.origin.dimension)
            advance(len(block))
