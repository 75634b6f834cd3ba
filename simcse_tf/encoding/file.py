"""A text file to a NumPy file, one row a line, resumed after a kill."""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.text_lines import read_raw_lines
from simcse_tf.encoding.bulk import (
    blocks_of,
    encode_blocks,
    pays_to_compile,
    progress_bar,
)
from simcse_tf.encoding.partial_array import partial_array

if TYPE_CHECKING:
    from simcse_tf.model.simcse import SimCSE


def encode_file(
    model: SimCSE, path: str, output: str, batch_size: int | None = None
) -> int:
    """Writes a NumPy file with one row a line, whole or not at all.

    Memory does not depend on the number of lines. After an interruption, the next call
    with the same model, input and output resumes.

    Args:
        model: A `simcse_tf.SimCSE`.
        path: string. A text file; an empty line is an empty sentence.
        output: string. The `.npy` file: float32, `(n, embedding_dim)`.
        batch_size: Optional int. As for `encode`.

    Returns:
        int. `n`, the number of lines.

    Raises:
        UserError: If a file cannot be read or written, another process is writing
            the output, or an embedding is not finite.

    Example:

    ```python
    encode_file(model, "sentences.txt", "embeddings.npy")  # 1000000
    ```
    """
    lines, digest = scan(path)
    jit_compile = pays_to_compile(model, lines)
    if jit_compile:
        print("encode: XLA compiles each shape of batches first", file=sys.stderr)
    key = f"{digest} {_fingerprint(model)}"
    shape = (lines, model.embedding_dim)
    try:
        with partial_array(output, shape, key) as array:
            done = array.rows_done
            if done:
                print(
                    f"encode: resuming after {done} of {lines} lines", file=sys.stderr
                )
            blocks = blocks_of(islice(read_raw_lines(path), done, None))
            with progress_bar(lines, True, done) as bar:
                for rows in encode_blocks(
                    model,
                    blocks,
                    batch_size,
                    advance=bar.update,
                    jit_compile=jit_compile,
                    first=done + 1,
                ):
                    array.append(rows)
    except BlockingIOError:
        raise UserError(f"--output: another process is writing {output}") from None
    except OSError as error:
        raise UserError(f"--output: cannot write {output}: {error.strerror}") from None
    return lines


def scan(path: str) -> tuple[int, str]:
    """How many lines a file has, and a digest of its content.

    Args:
        path: string. A regular file.

    Raises:
        UserError: If it cannot be read, or can be read only once.

    Example:

    ```python
    scan("sentences.txt")  # (1000000, "9f86d08188...")
    ```
    """
    digest, lines = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            if not file.seekable():
                raise UserError(f"--input: expected a regular file, received {path}")
            for line in file:
                digest.update(line)
                lines += 1
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror}") from None
    return lines, digest.hexdigest()


def _fingerprint(model: SimCSE) -> str:
    """A digest of everything that decides an embedding."""
    about = model.description()
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for weight in model.weights:
        # The rest are the states of random generators.
        if "float" in weight.dtype:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
