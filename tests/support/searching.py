"""A SavedModel with an index inside, whose embeddings need no model."""

import numpy as np
import tensorflow as tf

from simcse_tf.encoding.records import FileRecords
from simcse_tf.exporting.index_rows import IndexRows
from simcse_tf.exporting.manifest import ExportedIndex
from simcse_tf.exporting.search_signature import SearchSignature
from simcse_tf.exporting.served_embedder import Embedded
from simcse_tf.indexing.changes import build
from simcse_tf.indexing.index import Index
from simcse_tf.indexing.sources import ModelSource
from support.servers import DIM, Embedder

TEXTS = [f"sentence number {n}" for n in range(40)] + ["naïve façade 🎸", ""]


def embed(texts, prompt=None):
    return Embedder()._embed(tf.strings.join([prompt or "", texts]))


def embedded(texts, prompt=None):
    """What an export's graph makes of texts; a search reads no counts."""
    return Embedded(embed(texts, prompt), None, None)


def rows_of_texts(texts=TEXTS, has_metadata=True):
    def strings(values):
        return np.array([value.encode() for value in values], object)

    metadata = [f'{{"length": {len(text)}}}' for text in texts]
    return IndexRows(
        vectors=embed(tf.constant(texts)).numpy(),
        ids=strings(f"id {n}" for n in range(len(texts))),
        texts=strings(texts),
        metadata=strings(metadata) if has_metadata else None,
        about=ExportedIndex(
            source="wiki.index",
            digest="0" * 64,
            rows=len(texts),
            dimensions=DIM,
            vectors="float32",
            has_metadata=has_metadata,
        ),
    )


class Searchable(Embedder):
    """The servers' test model with a signature that searches."""

    def __init__(self, rows):
        super().__init__()
        function, types = SearchSignature(rows, None).function(embedded)
        self.search = tf.function(function, input_signature=types)
        # What a SavedModel keeps.
        self.kept = self.search.get_concrete_function().variables


def export_searchable(path, rows=None):
    module = Searchable(rows or rows_of_texts())
    signatures = {"serving_default": module.encode, "search": module.search}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def build_index(model, directory, texts, **options):
    """An index of texts that a model embeds."""
    file = directory.with_suffix(".txt")
    file.write_text("\n".join(texts), "utf-8")
    source = ModelSource(FileRecords(str(file)), file.name, model, "the model")
    build(directory, source, **options)
    return Index.open(directory)
