"""An index: a directory of embeddings with their ids, texts and metadata."""
