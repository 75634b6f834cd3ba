"""The tensors of a checkpoint's files, as NumPy arrays by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simcse_tf.checkpoints.flax_file import read_flax
from simcse_tf.checkpoints.safetensors_file import read_safetensors
from simcse_tf.checkpoints.torch_file import read_torch
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shortened
from simcse_tf.core.regular_files import is_there

Tensors = dict[str, np.ndarray]

# Weights in formats that are not read.
_OTHER_FILES = ("*.h5", "*.onnx", "*.ckpt*", "*.gguf", "*.ot")


@dataclass(frozen=True)
class _Format:
    file: str
    read: Callable[[Path], Tensors]

    @property
    def index(self) -> str:
        """The file that says which tensor is in which part of a divided checkpoint."""
        return f"{self.file}.index.json"


# The first one that is there is read.
_FORMATS = (
    _Format("model.safetensors", read_safetensors),
    _Format("pytorch_model.bin", read_torch),
    _Format("flax_model.msgpack", read_flax),
)
WEIGHT_FILES = tuple(each.file for each in _FORMATS)


class FoundTensors(NamedTuple):
    """The tensors of a checkpoint.

    Attributes:
        tensors: Dictionary of arrays by name, bfloat16 as float32.
        file: string. What was read, without the directory.
        size: int. Bytes of the files.
    """

    tensors: Tensors
    file: str
    size: int


def read_tensors(directory: Path) -> FoundTensors:
    """Reads a checkpoint: safetensors if it is there, else PyTorch's file, else Flax's.

    No file is run or imported: of PyTorch's pickles only tensors and containers are
    read.

    Args:
        directory: The checkpoint's directory.

    Raises:
        UserError: If there is none, or it is broken or holds anything else.

    Example:

    ```python
    tensors = read_tensors(Path("path/to/bert")).tensors
    ```
    """
    for each in _FORMATS:
        if is_there(directory / each.file):
            path = directory / each.file
            return FoundTensors(each.read(path), each.file, path.stat().st_size)
        if is_there(directory / each.index):
            return _read_parts(directory, each)
    others = [path.name for name in _OTHER_FILES for path in directory.glob(name)]
    instead = f", found {', '.join(sorted(others))}" if others else ""
    raise UserError(
        f"{directory} holds no weights: expected one of {', '.join(WEIGHT_FILES)}"
        f"{instead}"
    )


def _read_parts(directory: Path, form: _Format) -> FoundTensors:
    index = directory / form.index
    content = read_json(index)
    places: Any = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: expected a weight_map of tensors' names to files")
    found: Tensors = {}
    parts = sorted(set(map(str, places.values())))
    for part in parts:
        if Path(part).name != part or not is_there(directory / part):
            raise UserError(
                f"{index} names {shortened(part)!r}, which is no file beside it"
            )
        tensors = form.read(directory / part)
        if twice := found.keys() & tensors.keys():
            raise UserError(f"{directory}: {min(twice)} stands in two files")
        found.update(tensors)
    if missing := places.keys() - found.keys():
        raise UserError(f"{index} names {min(missing)}, which no file holds")
    size = sum((directory / part).stat().st_size for part in parts)
    return FoundTensors(found, form.index, size)
