"""Embeddings as they are stored: float32, bfloat16 or int8."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.vectors import l2_normalize
from simcse_tf.quantization import decode_int8, encode_int8

Dtype: TypeAlias = Literal["float32", "bfloat16", "int8"]
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "int8")

# NumPy has no bfloat16 of its own: its bits stand in the file.
_STORED: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(np.uint16),
    "int8": np.dtype(np.int8),
}


def stored_dtype(dtype: Dtype) -> np.dtype:
    """The dtype of the file's elements.

    Example:

    ```python
    stored_dtype("bfloat16")  # uint16
    ```
    """
    return _STORED[dtype]


def encode_vectors(rows: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Embeddings as they are stored.

    Args:
        rows: float32 array of shape `(n, dim)`, rows of unit length.
        dtype: See `DTYPES`.

    Returns:
        Array of shape `(n, dim)`, of `stored_dtype(dtype)`.

    Example:

    ```python
    encode_vectors(np.array([[0.6, -0.8]], np.float32), "int8")  # [[95, -127]]
    ```
    """
    if dtype == "bfloat16":
        import ml_dtypes

        return rows.astype(ml_dtypes.bfloat16).view(np.uint16)
    return encode_int8(rows) if dtype == "int8" else rows


def decode_vectors(stored: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Embeddings from what is stored.

    Args:
        stored: As `encode_vectors` returns it.
        dtype: See `DTYPES`.

    Returns:
        float32 array of shape `(n, dim)`, rows of unit length.

    Example:

    ```python
    decode_vectors(np.array([[95, -127]], np.int8), "int8")  # [[0.599, -0.801]]
    ```
    """
    if dtype == "bfloat16":
        # Its bits are the upper half of a float32's.
        return l2_normalize((stored.astype(np.uint32) << 16).view(np.float32))
    return decode_int8(stored) if dtype == "int8" else np.asarray(stored)


def open_vectors(file: Path, shape: tuple[int, int], dtype: Dtype) -> np.ndarray:
    """Maps a file of embeddings to memory.

    Args:
        file: The NumPy file.
        shape: Rows and dimensions that it must have.
        dtype: See `DTYPES`.

    Returns:
        Array of that shape, of `stored_dtype(dtype)`.

    Raises:
        UserError: If it cannot be read, or is another.

    Example:

    ```python
    open_vectors(directory / segment.vectors.path, (1000000, 384), "int8")
    ```
    """
    try:
        # An empty file cannot be mapped.
        array = np.load(file, mmap_mode="r" if shape[0] else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    if array.shape != shape or array.dtype != stored_dtype(dtype):
        raise UserError(
            f"{file}: expected {stored_dtype(dtype)} of shape {shape}, received "
            f"{array.dtype} of shape {array.shape}"
        )
    return array
