"""Safetensors files as arrays, without a copy of the file in memory.

The package's own NumPy reader has no bfloat16.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from simcse_tf.checkpoints.bfloat16 import BFLOAT16, widened
from simcse_tf.core.errors import UserError

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
# As the reference has it: a longer header is taken for a broken file.
_LONGEST_HEADER = 100_000_000
_LENGTH_BYTES = 8


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Args:
        path: The file.

    Returns:
        Dictionary of arrays by name; most are views of the file on disk. bfloat16
        becomes float32.

    Raises:
        UserError: If the file is broken, or holds a dtype that NumPy does not have.

    Example:

    ```python
    read_safetensors(Path("model.safetensors"))["pooler.dense.bias"].shape  # (768,)
    ```
    """
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0)
    header, body = _split(content, path)
    return {
        name: _tensor(entry, body, f"{path}: {name}")
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _split(content: np.ndarray, path: Path) -> tuple[dict[str, Any], np.ndarray]:
    broken = UserError(f"{path} is no whole safetensors file: download it again")
    if len(content) < _LENGTH_BYTES:
        raise broken
    length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    if length > min(_LONGEST_HEADER, len(content) - _LENGTH_BYTES):
        raise broken
    end = _LENGTH_BYTES + length
    try:
        header = json.loads(content[_LENGTH_BYTES:end].tobytes())
    except ValueError:
        raise broken from None
    if not isinstance(header, dict):
        raise broken
    return header, content[end:]


def _tensor(entry: Any, body: np.ndarray, source: str) -> np.ndarray:
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        whole = all(isinstance(n, int) and n >= 0 for n in (*shape, start, stop))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"{source}: expected dtype, shape and data_offsets")
    if dtype not in _DTYPES:
        raise UserError(
            f"{source} is {dtype}: expected one of {', '.join(_DTYPES)}; quantized "
            "weights are not read"
        )
    size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    if stop - start != size or stop > len(body):
        raise UserError(f"{source}: the file does not hold all of it")
    array = body[start:stop].view(_DTYPES[dtype]).reshape(shape)
    return widened(array) if dtype == "BF16" else array
