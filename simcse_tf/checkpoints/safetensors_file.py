"""Safetensors files as arrays."""

from pathlib import Path
from typing import Any

# With it NumPy knows bfloat16, which the package's NumPy reader then returns.
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened

_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Args:
        path: The file.

    Returns:
        Dictionary of arrays by name. bfloat16 becomes float32.

    Raises:
        UserError: If the file is broken, or holds quantized weights.

    Example:

    ```python
    read_safetensors(Path("model.safetensors"))["pooler.dense.bias"].shape  # (768,)
    ```
    """
    try:
        with safe_open(path, "numpy") as file:
            return {name: _tensor(file, name, path) for name in list(file.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no whole safetensors file: download it again "
            f"({shortened(str(error))})"
        ) from None


def _tensor(file: Any, name: str, path: Path) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        raise UserError(
            f"{path}: {name} is {dtype}: expected one of {', '.join(_DTYPES)}; "
            "quantized weights are not read"
        )
    array: np.ndarray = file.get_tensor(name)
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
