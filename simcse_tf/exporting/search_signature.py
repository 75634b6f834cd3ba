"""The signature `search`: from texts to the nearest rows of an index, in one request.

The neighbours are those of exact search (`simcse_tf.search.exact`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from simcse_tf.client.protocol import LARGEST_K, NO_HIT, SEARCH
from simcse_tf.encoders.ops import l2_normalize
from simcse_tf.exporting.exact_search import ExactSearch
from simcse_tf.exporting.index_rows import IndexRows
from simcse_tf.exporting.served_embedder import Embed, Embedded
from simcse_tf.exporting.signatures import Arrays
from simcse_tf.quantization import truncate
from simcse_tf.search.exact import top_k

# The numbers of neighbours in recorded requests: others for each text, as in a batch
# that a server has merged.
_EXAMPLE_KS = (1, 3, 10)


class SearchSignature:
    """The way to ask for neighbours in an index; an `Endpoint`.

    | input, output | type | |
    |---|---|---|
    | `text` | string `(n,)` | what is searched for |
    | `k` | int32 `(n,)` | how many neighbours each text gets, at most `LARGEST_K` |
    | `ids`, `texts` | string `(n, width)` | the nearest first |
    | `cosines` | float32 `(n, width)` | to six decimals |
    | `metadata` | string `(n, width)` | JSON objects; of an index with columns |

    `k` has an element for each text because servers merge requests along the first
    dimension. The width is the largest `k` of what was merged. A text's columns from
    its own `k` on, or from the number of rows on, are empty, and their cosine is
    `NO_HIT`. No request fails by its content, because those merged with it would fail
    too.

    Args:
        rows: What is searched.
        prompt: Optional string. What stands before each text; `None` for the model's
            own prompt.

    Example:

    ```python
    signature = SearchSignature(rows_of(index), model.prompts.get("query"))
    archive.add_endpoint("search", *signature.function(embedder(model)))
    ```
    """

    name = SEARCH

    def __init__(self, rows: IndexRows, prompt: str | None):
        self.prompt = prompt
        self._rows = rows
        self._strings = {"ids": rows.ids, "texts": rows.texts}
        if rows.metadata is not None:
            self._strings["metadata"] = rows.metadata

    def function(
        self, embed: Embed
    ) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
        """See `Endpoint.function`."""
        search = ExactSearch(self._rows.vectors)
        with tf.device("CPU:0"):
            strings = {
                name: tf.Variable(values, trainable=False, dtype=tf.string)
                for name, values in self._strings.items()
            }

        def nearest(texts: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Servers fill a batch up with copies of a text.
            distinct, places = tf.unique(texts)
            embeddings = embed(distinct, self.prompt).embedding
            embeddings = l2_normalize(embeddings[:, : self._rows.about.dimensions])
            found = search(embeddings, tf.maximum(k, 1))
            cosines, rows = (tf.gather(each, places) for each in found)
            return cosines, rows

        def answer(text: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
            k = tf.clip_by_value(tf.broadcast_to(k, tf.shape(text)), 0, LARGEST_K)
            width = tf.reduce_max(tf.concat([[0], k], axis=0))
            cosines, rows = nearest(text, width)
            columns = tf.range(width)
            beyond = tf.minimum(columns, tf.shape(rows)[1] - 1)
            rows = tf.gather(rows, beyond, axis=1)
            cosines = tf.gather(tf.cast(cosines, tf.float32), beyond, axis=1)
            is_hit = columns < tf.minimum(k, self._rows.about.rows)[:, tf.newaxis]
            found = {
                name: tf.where(is_hit, tf.gather(values.read_value(), rows), "")
                for name, values in strings.items()
            }
            return {**found, "cosines": tf.where(is_hit, cosines, NO_HIT)}

        return answer, [
            tf.TensorSpec([None], tf.string, "text"),
            tf.TensorSpec([None], tf.int32, "k"),
        ]

    def example(
        self, texts: Sequence[bytes], embedded: Embedded
    ) -> tuple[Arrays, Arrays]:
        """See `Endpoint.example`."""
        k = np.resize(np.array(_EXAMPLE_KS, np.int32), len(texts))
        width = int(k.max())
        queries = truncate(embedded.embedding, self._rows.about.dimensions)
        indices, cosines = top_k(queries, self._rows.vectors, width)
        shape = (len(texts), width)
        missing = width - indices.shape[1]
        is_hit = np.arange(width) < np.minimum(k, indices.shape[1])[:, np.newaxis]
        rows = np.pad(indices, ((0, 0), (0, missing)))
        found = {
            name: np.where(is_hit, values[rows], b"")
            for name, values in self._strings.items()
        }
        padded = np.full(shape, NO_HIT, np.float32)
        padded[is_hit] = np.pad(cosines, ((0, 0), (0, missing)))[is_hit]
        inputs = {"text": np.array(texts, object), "k": k}
        return inputs, {**found, "cosines": padded}
