"""A file's texts to a NumPy file, one row each, resumed after a kill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from simcse_tf.core.errors import UserError
from simcse_tf.core.outputs import output_file, writing_output
from simcse_tf.core.regular_files import check_file
from simcse_tf.core.steady_lines import Changed, SteadyLines
from simcse_tf.encoding.bulk import (
    blocks_of,
    encode_blocks,
    pays_to_compile,
    progress_bar,
)
from simcse_tf.encoding.fingerprint import model_fingerprint
from simcse_tf.encoding.partial_array import partial_array, working_files
from simcse_tf.encoding.texts import FileTexts

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


def encode_file(
    model: SimCSE,
    path: str,
    output: str,
    batch_size: int | None = None,
    texts: SteadyLines | None = None,
) -> int:
    """Writes a NumPy file with one row a text, whole or not at all.

    Memory does not depend on the number of texts. After an interruption, the next call
    with the same model, input and output resumes.

    Args:
        model: A `simcse_tf.SimCSE`.
        path: string. The file with the texts, as
            `simcse_tf.encoding.texts.FileTexts` takes it.
        output: string. The `.npy` file: float32, `(n, embedding_dim)`.
        batch_size: Optional int. As for `encode`.
        texts: Optional `SteadyLines`. The file's texts, if they are open already.

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
    texts = SteadyLines(path, FileTexts(path)) if texts is None else texts
    with writing_output("--output", output):
        _write(model, texts, final, batch_size)
    return len(texts)


def check_files(path: str, output: str, model: str | None = None) -> Path:
    """Checks the files of `encode_file` before work that takes long.

    Args:
        path: string. The file with the texts.
        output: string. The `.npy` file.
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
    model: SimCSE, lines: SteadyLines, final: Path, batch_size: int | None
) -> None:
    jit_compile = pays_to_compile(model, len(lines))
    if jit_compile:
        print("encode: XLA compiles each shape of batches first", file=sys.stderr)
    shape = (len(lines), model.embedding_dim)
    with partial_array(
        final, shape, f"{lines.digest} {model_fingerprint(model)}"
    ) as array:
        done = array.rows_done
        if done:
            print(
                f"encode: resuming after {done} of {len(lines)} texts", file=sys.stderr
            )
        try:
            with progress_bar(len(lines), True, done) as bar:
                for rows in encode_blocks(
                    model,
                    blocks_of(lines.read(done)),
                    batch_size,
                    advance=bar.update,
                    jit_compile=jit_compile,
                    first=done + 1,
                ):
                    array.append(rows)
        except Changed:
            array.discard()
            raise
