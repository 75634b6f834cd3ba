"""Encoding every distinct sentence once, however many tasks ask for it."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from simcse_tf.core.vectors import check_finite

Encoder: TypeAlias = Callable[[list[str]], ArrayLike]


class CachingEncoder:
    """An encoder that keeps what another one encoded.

    Args:
        encode: Maps n strings to an array `(n, dim)`. Called with a list of distinct
            sentences, none of which it was given before.

    Example:

    ```python
    encode = CachingEncoder(encode)
    encode(["a", "b", "a"])  # encodes two sentences
    encode(["b", "c"])  # encodes one
    ```
    """

    def __init__(self, encode: Encoder):
        self._encode = encode
        self._rows: dict[str, int] = {}
        self._roles: dict[str, CachingEncoder] = {}
        self._embeddings = np.empty((0, 0), np.float32)

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """The embeddings of sentences, those not seen before encoded in one call.

        Args:
            sentences: n strings.

        Returns:
            Array `(n, dim)` of the dtype that the encoder returned.

        Raises:
            NotFinite: An embedding is not finite, which is a `UserError`.
            ValueError: The encoder returned another shape.
        """
        new = list(dict.fromkeys(s for s in sentences if s not in self._rows))
        if new:
            self._add(new)
        return self._embeddings[[self._rows[sentence] for sentence in sentences]]

    def of_role(self, role: str) -> "CachingEncoder":
        """The encoder of one side of a search, `"query"` or `"document"`.

        That is the one that the encoder's own `of_role` returns, if it has one: a model
        may have a prompt for each side.
        """
        of_role = getattr(self._encode, "of_role", None)
        other = of_role(role) if of_role else self._encode
        if other is self._encode:
            return self
        return self._roles.setdefault(role, CachingEncoder(other))

    def _add(self, sentences: list[str]) -> None:
        added = np.asarray(self._encode(sentences))
        if added.ndim != 2 or len(added) != len(sentences):
            raise ValueError(
                f"encode must return an array ({len(sentences)}, dim) for "
                f"{len(sentences)} sentences, received shape {added.shape}"
            )
        check_finite(added, "embeddings")
        start = len(self._rows)
        self._embeddings = np.concatenate([self._embeddings, added]) if start else added
        self._rows.update((s, start + row) for row, s in enumerate(sentences))
