"""Flax's `flax_model.msgpack` as tensors under PyTorch's names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# With it NumPy knows bfloat16.
import ml_dtypes
import msgpack
import numpy as np

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened

# Flax's extension type for an array: its shape, dtype and bytes, packed once more.
_ARRAY = 1
# How Flax divides an array of more than a gibibyte.
_DIVIDED = "__msgpack_chunked_array__"
_DTYPES = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16")},
    **{name: np.dtype(name) for name in ("int64", "int32", "uint8", "bool")},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_PYTORCH_NAMES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}


def read_flax(path: Path) -> dict[str, np.ndarray]:
    """Reads the parameters that a Flax model of transformers saved.

    Args:
        path: The file.

    Returns:
        Dictionary of arrays under PyTorch's names, dense kernels transposed as
        PyTorch has them. bfloat16 becomes float32.

    Raises:
        UserError: If the file is broken or holds anything but arrays.

    Example:

    ```python
    read_flax(Path("flax_model.msgpack"))["pooler.dense.weight"].shape  # (768, 768)
    ```
    """
    try:
        content = msgpack.unpackb(
            path.read_bytes(), ext_hook=_array, object_pairs_hook=_dictionary
        )
        if not isinstance(content, Mapping):
            raise ValueError("expected one dictionary")
        content = content.get("params", content)
        return dict(_named(content, ()))
    except (
        *(ValueError, TypeError, AttributeError, RecursionError),
        msgpack.UnpackException,
    ) as error:
        reason = shortened(str(error)) or type(error).__name__
        raise UserError(f"{path} is no whole file of Flax: {reason}") from None


def _dictionary(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs) or not all(isinstance(key, str) for key in entries):
        raise ValueError("expected names, each once")
    return entries


def _array(kind: int, payload: bytes) -> np.ndarray:
    if kind != _ARRAY:
        raise ValueError(f"it has the unknown extension {kind}")
    shape, dtype, data = msgpack.unpackb(payload)
    name = dtype.decode() if isinstance(dtype, bytes) else dtype
    if name not in _DTYPES:
        raise ValueError(f"it holds {name!r}, not {', '.join(_DTYPES)}")
    array = np.frombuffer(data, _DTYPES[name]).reshape(shape)
    return array.astype(np.float32) if name == "bfloat16" else array


def _named(
    content: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in content.items():
        here = (*path, key)
        if isinstance(value, Mapping) and _DIVIDED in value:
            value = _joined(value)
        if isinstance(value, Mapping):
            yield from _named(value, here)
        elif isinstance(value, np.ndarray):
            name = ".".join((*path, _PYTORCH_NAMES.get(key, key)))
            yield name, value.T if key == "kernel" else value
        else:
            raise ValueError(f"{'.'.join(here)} is no array")


def _joined(divided: Mapping[str, Any]) -> np.ndarray:
    try:
        parts = [divided["chunks"][str(i)] for i in range(len(divided["chunks"]))]
        shape = [divided["shape"][str(i)] for i in range(len(divided["shape"]))]
        return np.concatenate(parts).reshape(shape)
    except (KeyError, TypeError, ValueError):
        raise ValueError("a divided array lacks a part") from None
