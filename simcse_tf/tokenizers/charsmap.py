"""The replacements in SentencePiece's precompiled normalizer, read with NumPy.

The file has the size of a trie, the trie, and the replacements, each with a NUL behind
it. The trie is a double array over the bytes of UTF-8, of 32-bit units:

- bits 0 to 7 hold the byte that leads to the unit,
- bit 8 says that a key ends there,
- bits 10 to 30 hold what, by exclusive or with the unit's index, gives the index of
  its children, shifted by 8 more bits if bit 9 is set,
- bit 31 marks the unit with the value of the key that ended: where its replacement
  begins.
"""

import numpy as np

from simcse_tf.core.errors import UserError

_VALUE = 1 << 31
_LABEL_MASK = _VALUE | 0xFF
_BYTES = np.arange(1, 256)
MAX_KEY_BYTES = 5


def read_charsmap(charsmap: bytes) -> dict[str, str]:
    """Reads the replacements of a precompiled normalizer.

    Keys of more than 5 bytes are left out: the `tokenizers` package looks up none of
    them, and most keys are such.

    Args:
        charsmap: bytes. The `precompiled_charsmap` of a SentencePiece model.

    Returns:
        dict from string to string. Each key and what takes its place.

    Raises:
        UserError: If the bytes are none.

    Example:

    ```python
    read_charsmap(model.normalizer_spec.precompiled_charsmap)["ﬁ"]  # "fi"
    ```
    """
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 4 or size % 4 or not 4 <= size <= len(charsmap) - 4:
        raise _broken()
    units = np.frombuffer(charsmap, "<u4", count=size // 4, offset=4)
    blob = charsmap[4 + size :]
    try:
        blob.decode("utf-8")
        return {
            key.decode("utf-8"): _replacement(blob, value)
            for key, value in _entries(units)
        }
    except (UnicodeDecodeError, IndexError):
        raise _broken() from None


def _broken() -> UserError:
    return UserError(
        "charsmap: expected the precompiled_charsmap of a SentencePiece model; "
        "received other or incomplete bytes"
    )


def _entries(units: np.ndarray) -> list[tuple[bytes, int]]:
    """The keys with their values, found level by level."""
    entries: list[tuple[bytes, int]] = []
    prefixes = [b""]
    nodes = _children(units, np.zeros(1, np.int64))
    for _ in range(MAX_KEY_BYTES):
        places = nodes[:, None] ^ _BYTES
        places = np.where(places < len(units), places, 0)
        parent, column = np.nonzero((units[places] & _LABEL_MASK) == _BYTES)
        indices = places[parent, column]
        prefixes = [
            prefixes[row] + bytes([byte])
            for row, byte in zip(parent.tolist(), _BYTES[column].tolist(), strict=True)
        ]
        nodes = _children(units, indices)
        for index in np.flatnonzero(units[indices] & (1 << 8)).tolist():
            entries.append((prefixes[index], int(units[nodes[index]]) & ~_VALUE))
    return entries


def _children(units: np.ndarray, indices: np.ndarray) -> np.ndarray:
    unit = units[indices].astype(np.int64)
    shift = (unit & (1 << 9)) >> 6
    return indices ^ ((unit >> 10 & 0x1FFFFF) << shift)


def _replacement(blob: bytes, begin: int) -> str:
    if begin > len(blob):
        raise IndexError
    end = blob.find(b"\0", begin)
    return blob[begin : end if end >= 0 else len(blob)].decode("utf-8")
