"""A model that counts tokens, as exports do, and needs no training."""

import functools
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from simcse_tf.server.batching_parameters import BatchingParameters
from simcse_tf.server.servable import Servable
from support.servers import DIM, Embedder

MAX_LENGTH = 16  # a token is a byte, and there are two special ones
SMALLER = 4
BATCHING = BatchingParameters(
    max_batch_size=8,
    batch_timeout_micros=0,
    max_enqueued_batches=64,
    num_batch_threads=1,
)
TEXT = [tf.TensorSpec([None], tf.string, name="text")]


class CountingEmbedder(Embedder):
    """`serving_tokens` and what goes with it; a text that begins with "slow" is."""

    def __init__(self, shift=0):
        super().__init__()
        self._shift = str(shift)

    @tf.function(input_signature=TEXT)
    def encode(self, text):
        return {"embedding": self._counted(text, self._shift)["embedding"]}

    @tf.function(input_signature=TEXT)
    def tokens(self, text):
        return self._counted(text, self._shift)

    @tf.function(input_signature=TEXT)
    def query_tokens(self, text):
        return self._counted(text, "query: ")

    @tf.function(input_signature=TEXT)
    def document_tokens(self, text):
        return self._counted(text, "document: ")

    @tf.function(input_signature=TEXT)
    def smaller(self, text):
        embeddings = self._embed(text)[:, :SMALLER]
        return {"embedding": tf.math.l2_normalize(embeddings, axis=1)}

    def _counted(self, text, prompt):
        slow = tf.reduce_any(tf.strings.regex_full_match(text, "slow.*"))
        start, seconds = tf.timestamp(), tf.where(slow, 0.4, 0.0)
        [_] = tf.while_loop(
            lambda passed: passed < tf.cast(seconds, tf.float64),
            lambda passed: [tf.timestamp() - start],
            [tf.zeros([], tf.float64)],
        )
        length = tf.strings.length(text) + 2
        return {
            "embedding": self._embed(tf.strings.join([prompt, text])),
            "tokens": tf.minimum(length, MAX_LENGTH),
            "truncated": length > MAX_LENGTH,
        }


def export(base_path: Path, version: int = 1, shift: int = 0) -> Path:
    """Writes the model; another `shift` makes other embeddings."""
    return Path(shutil.copytree(_exported(shift).name, base_path / str(version)))


@functools.cache
def _exported(shift: int) -> tempfile.TemporaryDirectory:
    module = CountingEmbedder(shift)
    directory = tempfile.TemporaryDirectory()
    signatures = {
        "serving_default": module.encode,
        "serving_tokens": module.tokens,
        "serving_query_tokens": module.query_tokens,
        "serving_document_tokens": module.document_tokens,
        f"serving_{SMALLER}": module.smaller,
    }
    tf.saved_model.save(module, directory.name, signatures=signatures)
    return directory


def load(base_path: Path, version: int = 1, shift: int = 0) -> Servable:
    """Exports a version and loads it."""
    path = export(base_path, version, shift)
    return Servable(version, path, BATCHING, ThreadPoolExecutor(1))


def expected(servable: Servable, texts, signature="serving_tokens") -> np.ndarray:
    """The embeddings, from the graph itself."""
    function = servable._model.signatures[signature]
    embeddings = function(text=tf.constant(texts))["embedding"].numpy()
    assert embeddings.shape == (len(texts), DIM)
    return embeddings
