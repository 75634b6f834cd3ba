"""Another model's embeddings of the training texts, looked up by text.

`simcse_tf.encoding.text_embeddings` computes them once. Needs no TensorFlow until a
pipeline asks for them.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shown
from simcse_tf.core.regular_files import check_file, shown_path
from simcse_tf.core.vectors import npy_header

if TYPE_CHECKING:
    import tensorflow as tf

FINGERPRINTS_FILE = "fingerprints.npy"
EMBEDDINGS_FILE = "embeddings.npy"

# Anchor and positive are always there; a hard negative behind them may be lacking.
NEVER_ABSENT = 2
# Of a text that a message shows.
_MOST_SHOWN = 80


def fingerprints(texts: Iterable[bytes]) -> np.ndarray:
    """64 bits of each text's BLAKE2b hash, which nobody can make collide on purpose.

    Args:
        texts: `n` UTF-8 strings.

    Returns:
        uint64 array of shape `(n,)`.

    Example:

    ```python
    fingerprints([b"A man plays."])
    ```
    """
    digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), "<u8")


class TextEmbeddings:
    """Embeddings of known texts, read from disk where a batch needs them.

    Args:
        directory: What `embed_texts` of `simcse_tf.encoding.text_embeddings` wrote. It
            is opened at the first lookup.
        dim: int. Columns of an embedding.

    Attributes:
        problems: List of the errors that lookups in an input pipeline raised, which
            TensorFlow reports as its own; see `simcse_tf.data.batches.problems_told`.

    Example:

    ```python
    embeddings = embed_texts(teacher, DistinctTexts(open_source("sentences.txt")))
    embeddings.look_up(np.array([[b"A man plays."]], object)).shape  # (1, 1, 768)
    ```
    """

    def __init__(self, directory: str | os.PathLike[str], dim: int):
        self.directory = Path(directory)
        self.dim = dim
        self.problems: list[UserError] = []

    def __reduce__(self) -> Any:
        # Copies open the file themselves.
        return TextEmbeddings, (self.directory, self.dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"directory": str(self.directory), "dim": self.dim}

    def look_up(self, texts: np.ndarray) -> np.ndarray:
        """The embeddings of a batch's texts.

        Args:
            texts: Array of `bytes` of shape `(n, columns)`. An empty one behind the
                second column is a hard negative that a row lacks.

        Returns:
            float32 array of shape `(n, columns, dim)`; what a row lacks is zero.

        Raises:
            UserError: If a text is not among the known ones, or they cannot be read.
        """
        wanted = texts.ravel().tolist()
        marks = fingerprints(wanted)
        places = np.minimum(np.searchsorted(self._known, marks), len(self._known) - 1)
        absent = texts == b""
        absent[:, :NEVER_ABSENT] = False
        unknown = (self._known[places] != marks) & ~absent.ravel()
        if unknown.any():
            text = wanted[int(np.argmax(unknown))].decode("utf-8", "replace")
            raise UserError(
                f"{shown_path(self.directory)} holds no embedding of the text "
                f"{shown(text[:_MOST_SHOWN])}: it is not one of the texts that they "
                "were computed of"
            )
        rows = self._read(places)
        rows[absent.ravel()] = 0
        return rows.reshape(*texts.shape, self.dim)

    def of_batch(self, texts: Sequence[tf.Tensor]) -> tf.Tensor:
        """`look_up` in an input pipeline.

        Args:
            texts: The batch's columns, string tensors of shape `(n,)`.

        Returns:
            float32 tensor of shape `(n, columns, dim)`.
        """
        import tensorflow as tf

        stacked = tf.stack(texts, axis=1)
        rows = tf.numpy_function(self._look_up_or_tell, [stacked], tf.float32)
        return tf.ensure_shape(rows, (*stacked.shape, self.dim))

    def _look_up_or_tell(self, texts: np.ndarray) -> np.ndarray:
        try:
            return self.look_up(texts)
        except UserError as problem:
            self.problems.append(problem)
            raise

    def _read(self, places: np.ndarray) -> np.ndarray:
        file, header = self._file
        rows = np.empty((len(places), self.dim), np.float32)
        size = self.dim * rows.itemsize
        try:
            for row, place in zip(rows, places.tolist(), strict=True):
                # Mapped, a file that is cut would end the process.
                if os.preadv(file.fileno(), [row.data], header + place * size) != size:
                    raise self._damaged(EMBEDDINGS_FILE)
        except OSError as error:
            raise UserError(
                f"cannot read {shown_path(self.directory)}: {error.strerror}"
            ) from None
        return rows

    @functools.cached_property
    def _known(self) -> np.ndarray:
        path = self.directory / FINGERPRINTS_FILE
        check_file(path)
        try:
            known: np.ndarray = np.load(path)
        except (OSError, ValueError, EOFError):
            raise self._damaged(FINGERPRINTS_FILE) from None
        if known.dtype != np.dtype("<u8") or known.ndim != 1 or not len(known):
            raise self._damaged(FINGERPRINTS_FILE)
        return known

    @functools.cached_property
    def _file(self) -> tuple[BinaryIO, int]:
        """The open file of embeddings, and where its rows begin."""
        path = self.directory / EMBEDDINGS_FILE
        shape = (len(self._known), self.dim)
        header = npy_header(shape, np.dtype(np.float32))
        check_file(path)
        file = path.open("rb", buffering=0)
        begins = os.pread(file.fileno(), len(header), 0)
        size = os.fstat(file.fileno()).st_size
        if begins != header or size != len(header) + 4 * shape[0] * shape[1]:
            raise self._damaged(EMBEDDINGS_FILE)
        return file, len(header)

    def _damaged(self, name: str) -> UserError:
        path = shown_path(self.directory / name)
        return UserError(f"{path} is not as it was written: remove {path}")
