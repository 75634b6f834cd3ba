"""`EmbedTexts`: embeddings in a pipeline of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference

from simcse_tf.core.json_files import shown
from simcse_tf.encoding.embedding_files import EMBEDDING, TEXT

# Bytes of texts that are embedded together: some thousand sentences.
_BATCH_BYTES = 2**18
_DEAD = "dead_letters"


class Embedded(NamedTuple):
    """What `EmbedTexts` returns.

    Attributes:
        rows: Collection of dictionaries: those that came, with an `embedding`.
        dead_letters: Collection of dictionaries `{"row", "reason"}`.

    Example:

    ```python
    (rows | EmbedTexts(handler)).dead_letters | beam.Map(print)
    ```
    """

    rows: Any
    dead_letters: Any


class EmbedTexts(beam.PTransform[Any, Any]):
    """Adds embeddings to rows that have texts.

    Texts are embedded as many at a time as are a quarter of a megabyte, in batches of
    similar length.

    Args:
        handler: A `SavedModelHandler` or `EndpointHandler`.

    Call arguments:
        rows: Collection of dictionaries with a string under `text`; all else in them
            stays as it is.

    Returns:
        `Embedded`. An `embedding` is a float32 array of shape `(dim,)`. A row whose
        text is no string is among the dead letters.

    Example:

    ```python
    with beam.Pipeline() as pipeline:
        embedded = (
            pipeline
            | beam.Create([{"id": "7", "text": "A man plays."}])
            | EmbedTexts(SavedModelHandler("served/1"))
        )
        embedded.rows | beam.Map(print)
    ```
    """

    def __init__(self, handler: ModelHandler[Any, Any, Any]):
        super().__init__()
        self._handler = handler

    def expand(self, rows: Any) -> Embedded:
        checked = rows | "Check" >> beam.ParDo(_Check()).with_outputs(
            _DEAD, main="rows"
        )
        embedded = (
            checked.rows
            | "Batch"
            >> beam.BatchElements(_BATCH_BYTES, _BATCH_BYTES, element_size_fn=_size_of)
            | "Texts" >> beam.Map(_with_texts)
            | "Embed" >> RunInference(KeyedModelHandler(self._handler))
            | "Rows" >> beam.FlatMap(_with_embeddings)
        )
        return Embedded(embedded, checked[_DEAD])


class _Check(beam.DoFn):
    """Tells rows without a text from the others."""

    def process(self, row: Any) -> Iterator[Any]:
        text = row.get(TEXT) if isinstance(row, Mapping) else None
        if isinstance(text, str):
            yield row
            return
        reason = f"expected a string under {TEXT}, received {shown(text)}"
        if not isinstance(row, Mapping):
            reason = f"expected a dictionary, received {type(row).__name__}"
        yield beam.pvalue.TaggedOutput(_DEAD, {"row": row, "reason": reason})


def _size_of(row: Mapping[str, Any]) -> int:
    # An empty text takes two tokens as well.
    return len(row[TEXT]) + 8


def _with_texts(
    rows: list[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[bytes]]:
    return rows, [row[TEXT].encode("utf-8", "surrogatepass") for row in rows]


def _with_embeddings(
    found: tuple[Iterable[Mapping[str, Any]], np.ndarray],
) -> Iterator[dict[str, Any]]:
    rows, embeddings = found
    for row, embedding in zip(rows, embeddings, strict=True):
        yield {**row, EMBEDDING: embedding}
