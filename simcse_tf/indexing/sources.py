"""What an index is built from: records, and an embedding of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.records import FileRecords, Record
from simcse_tf.model.bulk import blocks_of, encode_blocks, pays_to_compile
from simcse_tf.quantization import truncate

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


@dataclass(frozen=True)
class Origin:
    """What made embeddings. Its attributes are those of a `Manifest`.

    Example:

    ```python
    Origin("runs/sup/best", model_fingerprint(model), 768)
    ```
    """

    model: str
    fingerprint: str | None
    dimension: int
    pooling: str | None = None
    max_length: int | None = None
    prompt: str | None = None
    truncate_dim: int | None = None


class Source(Protocol):
    """Records, and an embedding of each.

    Attributes:
        name: string. What messages call it.
        origin: What makes the embeddings.
        key: string. Tells embeddings of the same records from others.
        ids_given: bool. Whether the records' ids are their own.
        has_texts: bool. Whether they have texts.
        untyped: bool. Whether all values of metadata are texts.

    Example:

    ```python
    for record in source.records():
        print(record.id)
    ```
    """

    name: str
    origin: Origin
    key: str
    ids_given: bool
    has_texts: bool
    untyped: bool

    def records(self) -> Iterator[Record]:
        """All records, the same each time.

        Raises:
            UserError: If they cannot be read.
        """
        ...

    def embeddings(
        self,
        texts: Callable[[int], Iterable[bytes]],
        start: int,
        rows: int,
        advance: Callable[[int], Any],
    ) -> Iterator[np.ndarray]:
        """The embeddings, some thousands at a time.

        Args:
            texts: Gives the records' texts from a row on, as they were written.
            start: int. The first row.
            rows: int. How many there are in all.
            advance: Called with the number of rows done since it was last called.

        Yields:
            float32 array of shape `(n, dim)`, rows of unit length.

        Raises:
            UserError: If there is none for a record.
        """
        ...


class RecordSource:
    """What the sources of a file's records share.

    Args:
        records: The records.
        name: string. The file.

    Example:

    ```python
    RecordSource(FileRecords("wiki.jsonl"), "wiki.jsonl").ids_given
    ```
    """

    has_texts = True

    def __init__(self, records: FileRecords, name: str):
        self.name = name
        self.ids_given = records.ids_given
        self.untyped = records.untyped
        self._records = records

    def records(self) -> Iterator[Record]:
        """See `Source.records`."""
        return iter(self._records)


class ModelSource(RecordSource):
    """A file's records, embedded by a model behind its prompt for documents.

    Args:
        records: The records.
        name: string. The file.
        model: A `simcse_tf.SimCSE`.
        model_name: string. The MODEL argument.
        prompt: Optional string. What stands before each text. Defaults to `None`: the
            model's prompt `"document"`, or its own if it has none of that name.
        truncate_dim: Optional int. How many of an embedding's dimensions are kept.
            Defaults to `None`: all.
        batch_size: Optional int. As for `simcse_tf.model.bulk.encode`.

    Example:

    ```python
    ModelSource(FileRecords("wiki.jsonl"), "wiki.jsonl", model, "runs/sup/best")
    ```
    """

    def __init__(
        self,
        records: FileRecords,
        name: str,
        model: SimCSE,
        model_name: str,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
    ):
        super().__init__(records, name)
        self._model = model
        self._batch_size = batch_size
        self.origin = origin_of(model, model_name, prompt, truncate_dim)
        self.key = repr(self.origin)

    def embeddings(
        self,
        texts: Callable[[int], Iterable[bytes]],
        start: int,
        rows: int,
        advance: Callable[[int], Any],
    ) -> Iterator[np.ndarray]:
        origin = self.origin
        with self._model.behind(origin.prompt):
            for embedded in encode_blocks(
                self._model,
                blocks_of(texts(start)),
                self._batch_size,
                advance=advance,
                jit_compile=pays_to_compile(self._model, rows - start),
                first=start + 1,
            ):
                whole = origin.truncate_dim is None
                yield embedded if whole else truncate(embedded, origin.dimension)


def origin_of(
    model: SimCSE,
    name: str,
    prompt: str | None = None,
    truncate_dim: int | None = None,
) -> Origin:
    """What a model's embeddings of documents come from.

    Args:
        model: A `simcse_tf.SimCSE`.
        name: string. The MODEL argument.
        prompt: Optional string. As for `ModelSource`.
        truncate_dim: Optional int. As for `ModelSource`.

    Raises:
        UserError: If the model has fewer dimensions.

    Example:

    ```python
    origin_of(model, "runs/sup/best").dimension  # 768
    ```
    """
    most = model.embedding_dim
    if truncate_dim is not None and not 1 <= truncate_dim <= most:
        raise UserError(
            f"--truncate-dim: expected 1 to {most}, which {name}'s embeddings have, "
            f"received {truncate_dim}"
        )
    own = model.prompts.get("document", model.prompt)
    return Origin(
        model=name,
        fingerprint=model_fingerprint(model),
        dimension=truncate_dim or most,
        pooling=model.pooling,
        max_length=model.max_length,
        prompt=own if prompt is None else prompt,
        truncate_dim=truncate_dim,
    )


def prompt_of(model: SimCSE, name: str, prompt: str | None) -> str | None:
    """What `--prompt` means for a model.

    Args:
        model: A `simcse_tf.SimCSE`.
        name: string. The MODEL argument.
        prompt: Optional string. The name of one of its prompts.

    Returns:
        The prompt; `None` for `None`.

    Raises:
        UserError: If the model has none of that name.

    Example:

    ```python
    prompt_of(model, "runs/sup/best", "passage")  # "passage: "
    ```
    """
    if prompt is not None and prompt not in model.prompts:
        known = ", ".join(model.prompts) or "none"
        raise UserError(f"--prompt: {name} has the prompts {known}, received {prompt}")
    return None if prompt is None else model.prompts[prompt]
