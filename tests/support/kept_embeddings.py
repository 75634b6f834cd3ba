"""Embeddings of known texts as a run keeps them, without a model."""

import numpy as np

from simcse_tf.objectives.text_embeddings import (
    EMBEDDINGS_FILE,
    FINGERPRINTS_FILE,
    TextEmbeddings,
    fingerprints,
)


def keep(directory, embeddings):
    """Writes a dictionary from text to embedding; a `TextEmbeddings` of it."""
    marks = fingerprints(embeddings)
    order = np.argsort(marks)
    rows = np.array([*embeddings.values()], "float32")
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / FINGERPRINTS_FILE, marks[order])
    np.save(directory / EMBEDDINGS_FILE, rows[order])
    return TextEmbeddings(directory, rows.shape[1])


def unit_rows(texts, dim=5, seed=0):
    """A random embedding of length 1 for each text."""
    rows = np.random.default_rng(seed).normal(size=(len(texts), dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(texts, rows.astype("float32"), strict=True))
