"""A file's texts to a file of embeddings, one row each, resumed after a kill."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.atomic import atomic_write
from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.core.regular_files import check_file
from simcse_tf.core.steady_lines import Changed, SteadyLines
from simcse_tf.core.vectors import check_finite
from simcse_tf.encoding.embedding_files import (
    FLOAT32,
    EmbeddingsAbout,
    embedding_schema,
)
from simcse_tf.encoding.embedding_writers import NPY, WRITERS, Block
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.partial_array import PartialArray, partial_array, working_files
from simcse_tf.encoding.records import FileRecords, Record
from simcse_tf.encoding.steady_records import SteadyRecords
from simcse_tf.encoding.texts import FileTexts
from simcse_tf.model.bulk import (
    blocks_of,
    encode_blocks,
    pays_to_compile,
    progress_bar,
)

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


@dataclass(frozen=True)
class OutputForm:
    """How embeddings are written.

    Attributes:
        format: string. `"npy"`, `"parquet"` or `"jsonl"`.
        values: string. `"float32"`, `"int8"` or `"binary"`.
        truncate_dim: Optional int. How many dimensions are kept, the first ones;
            `None`: all.
        with_text: bool. Whether texts stand beside their embeddings.
        model: string. What the file calls the model.

    Example:

    ```python
    OutputForm("parquet", truncate_dim=256, with_text=True)
    ```
    """

    format: str = NPY
    values: str = FLOAT32
    truncate_dim: int | None = None
    with_text: bool = False
    model: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether the file is the rows as they are computed."""
        return self.format == NPY and self.values == FLOAT32 and not self.truncate_dim

    def about(self, model: SimCSE, fingerprint: str) -> EmbeddingsAbout:
        """What a model's embeddings are in this form.

        Raises:
            UserError: If the model has not so many dimensions.
        """
        asked, dimension = self.truncate_dim, model.embedding_dim
        if asked is not None and not 1 <= asked <= dimension:
            raise UserError(
                f"--truncate-dim: expected 1 to {dimension}, which the model's "
                f"embeddings have, received {asked}"
            )
        return EmbeddingsAbout(
            self.model,
            fingerprint,
            asked or dimension,
            self.values,
            asked,
            model.pooling,
            model.max_length,
            model.prompt,
        )


def encode_file(
    model: SimCSE,
    path: str,
    output: str,
    batch_size: int | None = None,
    texts: SteadyLines | SteadyRecords | None = None,
    form: OutputForm = OutputForm(),
) -> int:
    """Writes a file with one embedding a text, whole or not at all.

    Memory does not depend on the number of texts, but for eight bytes each where there
    are ids. After an interruption, the next call with the same model, texts and output
    resumes: float32 rows stand beside the output until all are there, and it is then
    written of them in its form.

    Args:
        model: A `simcse_tf.SimCSE`.
        path: string. The file with the texts, as
            `simcse_tf.encoding.texts.FileTexts` takes it.
        output: string. The file.
        batch_size: Optional int. As for `encode`.
        texts: Optional `SteadyLines` or `SteadyRecords`. The file's texts, if they are
            open already: records for a format with ids.
        form: How it is written. Defaults to a `.npy` file: float32,
            `(n, embedding_dim)`.

    Returns:
        int. `n`, the number of texts.

    Raises:
        UserError: If a file cannot be read or written, the input changes while it is
            read, another process is writing the output, or an embedding is not finite.

    Example:

    ```python
    encode_file(model, "sentences.txt", "embeddings.npy")  # 1000000
    ```
    """
    final = check_files(path, output)
    if texts is None:
        texts = open_texts(path, form)
    with writing_output("--output", output):
        _write(model, texts, final, batch_size, form)
    return len(texts)


def open_texts(path: str, form: OutputForm) -> SteadyLines | SteadyRecords:
    """A file's texts: with ids where the output has them.

    Args:
        path: string. The file.
        form: How the output is written.

    Raises:
        UserError: If they cannot be read.

    Example:

    ```python
    len(open_texts("sentences.txt", OutputForm("parquet")))  # 1000000
    ```
    """
    if form.format == NPY:
        return SteadyLines(path, FileTexts(path))
    return SteadyRecords(path, FileRecords(path, metadata=()))


def check_files(path: str, output: str, model: str | None = None) -> Path:
    """Checks the files of `encode_file` before work that takes long.

    Args:
        path: string. The file with the texts.
        output: string. The file.
        model: Optional string. The MODEL argument.

    Returns:
        The file that is to be written.

    Raises:
        UserError: If one cannot be read or written, or would be lost.

    Example:

    ```python
    check_files("sentences.txt", "embeddings.npy", model="runs/mine/best")
    ```
    """
    try:
        check_file(path)
    except UserError as error:
        raise UserError(f"--input: {error}") from None
    final = output_file("--output", output, inputs=[path, model])
    for partial in working_files(final):
        output_file("--output", partial, inputs=[path, model])
    return final


def _write(
    model: SimCSE,
    texts: SteadyLines | SteadyRecords,
    final: Path,
    batch_size: int | None,
    form: OutputForm,
) -> None:
    fingerprint = model_fingerprint(model)
    about = form.about(model, fingerprint)
    shape = (len(texts), model.embedding_dim)
    with partial_array(final, shape, f"{texts.digest} {fingerprint}") as array:
        try:
            _embed(model, texts, array, batch_size)
            if not form.is_plain:
                array.give(functools.partial(_rewrite, texts, final, form, about))
        except Changed:
            array.discard()
            raise


def _embed(
    model: SimCSE,
    texts: SteadyLines | SteadyRecords,
    array: PartialArray,
    batch_size: int | None,
) -> None:
    jit_compile = pays_to_compile(model, len(texts))
    if jit_compile:
        print("encode: XLA compiles each shape of batches first", file=sys.stderr)
    done = array.rows_done
    if done:
        print(f"encode: resuming after {done} of {len(texts)} texts", file=sys.stderr)
    with progress_bar(len(texts), True, done) as bar:
        for rows in encode_blocks(
            model,
            blocks_of(_text_of(each) for each in texts.read(done)),
            batch_size,
            advance=bar.update,
            jit_compile=jit_compile,
            first=done + 1,
        ):
            array.append(rows)


def _rewrite(
    texts: SteadyLines | SteadyRecords,
    final: Path,
    form: OutputForm,
    about: EmbeddingsAbout,
    rows: Iterable[np.ndarray],
) -> None:
    """Writes the output of all embeddings."""
    records = texts if isinstance(texts, SteadyRecords) else None
    fields = () if records is None else records.fields
    schema = embedding_schema(about, form.with_text, fields)
    with atomic_write(final) as path:
        WRITERS[form.format](path, _blocks(rows, records, about), schema, len(texts))


def _blocks(
    rows: Iterable[np.ndarray], records: SteadyRecords | None, about: EmbeddingsAbout
) -> Iterator[Block]:
    all_records = iter(()) if records is None else records.read()
    first = 1
    for part in rows:
        # They come from a disk.
        check_finite(part, "embeddings", first)
        yield about.encoded(part), list(islice(all_records, len(part)))
        first += len(part)
    # Where the file has grown, this raises.
    next(all_records, None)


def _text_of(item: bytes | Record) -> bytes:
    return item if isinstance(item, bytes) else item.text
