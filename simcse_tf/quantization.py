"""Smaller embeddings for storage: fewer dimensions, int8, one bit a dimension.

The signatures `serving_N`, `serving_int8` and `serving_binary` of an export return
them. This module needs NumPy alone.
"""

import numpy as np

from simcse_tf.core.vectors import check_finite, l2_normalize

INT8_LIMIT = 127


def truncate(embeddings: np.ndarray, dims: int) -> np.ndarray:
    """Keeps the first dimensions, at unit length again.

    Args:
        embeddings: float array of shape `(n, dim)`.
        dims: int, from 1 to `dim`.

    Returns:
        float32 array of shape `(n, dims)`.

    Example:

    ```python
    truncate(embeddings, 256)  # float32, (n, 256), rows of unit length
    ```
    """
    return l2_normalize(embeddings[:, :dims])


def encode_int8(embeddings: np.ndarray) -> np.ndarray:
    """Writes every row in steps of 1/127 of its largest component.

    Args:
        embeddings: float array of shape `(n, dim)`, rows of unit length.

    Returns:
        int8 array of shape `(n, dim)`, from -127 to 127.

    Raises:
        NotFinite: If an embedding is not finite: no code could tell.

    Example:

    ```python
    encode_int8(np.array([[0.6, -0.8]], np.float32))  # [[95, -127]]
    ```
    """
    check_finite(embeddings, "embeddings")
    largest = np.abs(embeddings).max(axis=1, keepdims=True, initial=0)
    steps = embeddings / np.where(largest > 0, largest, 1) * INT8_LIMIT
    return np.rint(steps).astype(np.int8)


def decode_int8(codes: np.ndarray) -> np.ndarray:
    """Embeddings from the codes of `encode_int8` or `serving_int8`.

    A row's scale is not stored: it is the one that makes the row's length 1.

    Args:
        codes: int8 array of shape `(n, dim)`.

    Returns:
        float32 array of shape `(n, dim)`, rows of unit length.

    Example:

    ```python
    decode_int8(np.array([[95, -127]], np.int8))  # [[0.599, -0.801]]
    ```
    """
    return l2_normalize(codes)


def encode_binary(embeddings: np.ndarray) -> np.ndarray:
    """One bit a component: whether it is greater than 0.

    Args:
        embeddings: float array of shape `(n, dim)`.

    Returns:
        uint8 array of shape `(n, ceil(dim / 8))` in the order of `numpy.packbits`:
        the first component is the highest bit of the first byte.

    Raises:
        NotFinite: If an embedding is not finite: no bit could tell.

    Example:

    ```python
    encode_binary(np.array([[0.6, -0.8]]))  # [[0b10000000]]
    ```
    """
    check_finite(embeddings, "embeddings")
    return np.packbits(embeddings > 0, axis=1)


def decode_binary(bits: np.ndarray, dim: int) -> np.ndarray:
    """Embeddings from the bits of `encode_binary` or `serving_binary`.

    All components of a row have the same magnitude.

    Args:
        bits: uint8 array of shape `(n, ceil(dim / 8))`.
        dim: int. Dimensions of the embedding.

    Returns:
        float32 array of shape `(n, dim)`, rows of unit length.

    Example:

    ```python
    decode_binary(np.array([[0b10000000]], np.uint8), 2)  # [[0.707, -0.707]]
    ```
    """
    signs = np.unpackbits(bits, axis=1, count=dim).astype(np.float32) * 2 - 1
    return signs / np.float32(np.sqrt(dim))


def hamming_distance(bits_a: np.ndarray, bits_b: np.ndarray) -> np.ndarray:
    """The number of dimensions in which the rows of two arrays differ.

    Args:
        bits_a: uint8 array of shape `(n, bytes)`.
        bits_b: uint8 array of shape `(n, bytes)`, or `(1, bytes)`.

    Returns:
        int64 array of shape `(n,)`.

    Example:

    ```python
    hamming_distance(np.array([[0b11]], np.uint8), np.array([[0b01]], np.uint8))  # [1]
    ```
    """
    different = np.unpackbits(bits_a ^ bits_b, axis=1)
    distance: np.ndarray = different.sum(axis=1, dtype=np.int64)
    return distance


def estimated_cosine(distance: np.ndarray, dim: int) -> np.ndarray:
    """The cosine of two embeddings from the Hamming distance of their bits.

    If directions are spread evenly, the signs of two vectors differ in a share of
    `angle / pi` (Charikar 2002, for random hyperplanes).

    Args:
        distance: int array. As `hamming_distance` returns it.
        dim: int. Dimensions of the embedding.

    Returns:
        float64 array, `cos(pi * distance / dim)`.

    Example:

    ```python
    estimated_cosine(np.array([0, 192]), 384)  # [1.0, 0.0]
    ```
    """
    return np.cos(np.pi * np.asarray(distance) / dim)
