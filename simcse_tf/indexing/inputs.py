"""What a command line names as the rows of an index."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.encoding.model_encoder import ModelEncoder
from simcse_tf.encoding.records import FileRecords
from simcse_tf.indexing.embedded_sources import ArrayFile, EmbeddingFiles
from simcse_tf.indexing.manifest import Manifest
from simcse_tf.indexing.querying import check_close, sample
from simcse_tf.indexing.sources import ModelSource, Source, origin_of, prompt_of

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE

_ARRAY = ".npy"
# Of the columns of texts and ids, as `encode` has them.
_FLAGS = ("--column", "--id-column")


@dataclass(frozen=True)
class Inputs:
    """The files of `build` and `add`, and how they are read.

    Attributes:
        input: Optional string. A file of texts.
        embeddings: Optional sequence of strings. Parquet files, or one `.npy` file.
        text: Optional string. As for `FileRecords`, and so are the next three.
        id: Optional string.
        metadata: Optional sequence of strings.
        quoting: Optional string.
        batch_size: Optional int. As for `simcse_tf.model.bulk.encode`.

    Raises:
        UserError: If they do not go together.

    Example:

    ```python
    Inputs(input="wiki.jsonl", metadata=["title"])
    ```
    """

    input: str | None = None
    embeddings: Sequence[str] | None = None
    text: str | None = None
    id: str | None = None
    metadata: Sequence[str] | None = None
    quoting: str | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        arrays = [
            path
            for path in self.embeddings or ()
            if PurePath(path).suffix.lower() == _ARRAY
        ]
        if self.input is None and not self.embeddings:
            raise UserError("expected --input or --embeddings: the rows of the index")
        if arrays and (self.input is None or len(self.embeddings or ()) > 1):
            raise UserError(
                f"--embeddings: expected one .npy file, and --input with the texts of "
                f"its rows, received {' '.join(self.embeddings or ())}"
            )
        if self.embeddings and self.input is not None and not arrays:
            raise UserError(
                "--input: expected none beside Parquet files of embeddings, which hold "
                f"ids and texts, received {self.input}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"--batch-size: expected 1 or more, got {self.batch_size}")

    def records(self) -> FileRecords:
        """The records of `input`.

        Raises:
            UserError: If it cannot be read.
        """
        assert self.input is not None
        records = FileRecords(
            self.input,
            text=self.text,
            id=self.id,
            metadata=self.metadata,
            quoting=self.quoting,
            flags=_FLAGS,
        )
        if records.description:
            print(f"{self.input}: {records.description}", file=sys.stderr)
        return records


def source_of(
    inputs: Inputs,
    model: str | None,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
    truncate_dim: int | None = None,
) -> Source:
    """The rows of a new index.

    Args:
        inputs: The files.
        model: Optional string. The MODEL argument, which texts need.
        pooling: Optional string. The pooler in place of the checkpoint's own.
        max_length: Optional int. Tokens a text is cut at.
        prompt: Optional string. The name of the prompt of documents.
        truncate_dim: Optional int. How many of an embedding's dimensions are kept.

    Raises:
        UserError: If something of that is wrong.

    Example:

    ```python
    source_of(Inputs(input="wiki.jsonl"), "runs/sup/best")
    ```
    """
    if inputs.input is None:
        given = {
            "--model": model,
            "--pooling": pooling,
            "--max-length": max_length,
            "--prompt": prompt,
            "--truncate-dim": truncate_dim,
        }
        return _parquet(inputs, [flag for flag, value in given.items() if value])
    if model is None:
        raise UserError("--model: expected the model of --input's embeddings")
    records = inputs.records()
    loaded = _load(model, pooling, max_length)
    before = prompt_of(loaded, model, prompt)
    return _of_texts(inputs, records, loaded, model, before, truncate_dim)


def source_to_add(inputs: Inputs, manifest: Manifest, model: str | None) -> Source:
    """The rows to be added to an index, embedded as it was built.

    Args:
        inputs: The files.
        manifest: The index'.
        model: Optional string. Where its model is now.

    Raises:
        UserError: If something of that is wrong.

    Example:

    ```python
    source_to_add(Inputs(input="new.jsonl"), read_manifest(directory), None)
    ```
    """
    if inputs.input is None:
        return _parquet(inputs, ["--model"] if model else [])
    name = model or manifest.model
    records = inputs.records()
    loaded = _load(name, manifest.pooling, manifest.max_length)
    before, dims = manifest.prompt, manifest.truncate_dim
    return _of_texts(inputs, records, loaded, name, before, dims)


def _parquet(inputs: Inputs, flags: Sequence[str]) -> Source:
    named = zip(_FLAGS, (inputs.text, inputs.id), strict=True)
    flags = [*flags, *[flag for flag, name in named if name]]
    if flags:
        raise UserError(
            f"{flags[0]}: expected none beside Parquet files of embeddings, which say "
            "what made them"
        )
    return EmbeddingFiles(inputs.embeddings or (), inputs.metadata)


def _of_texts(
    inputs: Inputs,
    records: FileRecords,
    model: SimCSE,
    name: str,
    prompt: str | None,
    truncate_dim: int | None,
) -> Source:
    assert inputs.input is not None
    if not inputs.embeddings:
        return ModelSource(
            records, inputs.input, model, name, prompt, truncate_dim, inputs.batch_size
        )
    origin = origin_of(model, name, prompt, truncate_dim)
    source = ArrayFile(records, inputs.input, inputs.embeddings[0], origin)
    encoder = ModelEncoder(
        model, prompt=origin.prompt, truncate_dim=truncate_dim, roles=False
    )
    _check_array(source, encoder, name)
    return source


def _check_array(source: ArrayFile, encode: ModelEncoder, model: str) -> None:
    """Checks by some of its rows that a model made the embeddings of a NumPy file."""
    rows = sample(len(source.array))
    wanted = set(rows.tolist())
    texts = [
        record.text.decode("utf-8", "replace")
        for row, record in enumerate(source.records())
        if row in wanted
    ]
    rows = rows[: len(texts)]
    if len(rows):
        there = np.array(source.array[rows], np.float32)
        check_close(encode(texts), there, rows, "float32", model, source.path)


def _load(model: str, pooling: str | None, max_length: int | None) -> SimCSE:
    from simcse_tf.core.compilation_cache import keep_compiled
    from simcse_tf.encoding.arguments import say_how_read
    from simcse_tf.encoding.process import one_core_an_operation, share_heaps

    keep_compiled()
    one_core_an_operation()
    share_heaps()
    from simcse_tf.model.simcse import SimCSE

    loaded = SimCSE.from_preset(model, pooling=pooling, max_length=max_length)
    say_how_read(loaded, model)
    return loaded
