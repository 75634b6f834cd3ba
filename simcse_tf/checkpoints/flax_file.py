"""Flax's `flax_model.msgpack` as tensors under PyTorch's names."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simcse_tf.checkpoints.bfloat16 import BFLOAT16, widened
from simcse_tf.core.errors import UserError

# Flax's extension type for an array: its shape, dtype and bytes, packed once more.
_ARRAY = 1
# How Flax divides an array of more than a gibibyte.
_DIVIDED = "__msgpack_chunked_array__"
_DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": BFLOAT16,
    "int64": "<i8",
    "int32": "<i4",
    "uint8": "u1",
    "bool": "?",
}
_DEEPEST = 64
_PYTORCH_NAMES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}


class _Broken(Exception):
    """The file is cut short, or no msgpack of Flax."""


def read_flax(path: Path) -> dict[str, np.ndarray]:
    """Reads the parameters that a Flax model of transformers saved.

    Args:
        path: The file.

    Returns:
        Dictionary of arrays under PyTorch's names, dense kernels transposed as
        PyTorch has them.

    Raises:
        UserError: If the file is broken or holds anything but arrays.

    Example:

    ```python
    read_flax(Path("flax_model.msgpack"))["pooler.dense.weight"].shape  # (768, 768)
    ```
    """
    try:
        reader = _Reader(memoryview(path.read_bytes()))
        content = reader.value()
        if not isinstance(content, Mapping) or reader.left():
            raise _Broken("expected one dictionary")
        content = content.get("params", content)
        return dict(_named(content, ()))
    except _Broken as error:
        raise UserError(f"{path} is no whole file of Flax: {error}") from None


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
            raise _Broken(f"{'.'.join(here)} is no array")


def _joined(divided: Mapping[str, Any]) -> np.ndarray:
    try:
        parts = [divided["chunks"][str(i)] for i in range(len(divided["chunks"]))]
        shape = [divided["shape"][str(i)] for i in range(len(divided["shape"]))]
        return np.concatenate(parts).reshape(shape)
    except (KeyError, TypeError, ValueError):
        raise _Broken("a divided array lacks a part") from None


class _Reader:
    """Reads msgpack: dictionaries, lists, strings, numbers and Flax's arrays."""

    def __init__(self, data: memoryview, depth: int = 0):
        self._data = data
        self._at = 0
        self._depth = depth

    def left(self) -> int:
        return len(self._data) - self._at

    def value(self) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Broken("it is nested too deeply")
        try:
            return self._value(self.take(1)[0])
        finally:
            self._depth -= 1

    def _value(self, code: int) -> Any:
        if code <= 0x7F:
            return code
        if code <= 0x8F:
            return self.entries(code & 0x0F)
        if code <= 0x9F:
            return self.items(code & 0x0F)
        if code <= 0xBF:
            return self.text(code & 0x1F)
        if code >= 0xE0:
            return code - 0x100
        if code not in _READ:
            raise _Broken(f"it has the unknown code {code:#x}")
        return _READ[code](self)

    def take(self, count: int) -> memoryview:
        if count > self.left():
            raise _Broken("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, form: str) -> Any:
        [value] = struct.unpack(">" + form, self.take(struct.calcsize(form)))
        return value

    def text(self, count: int) -> str:
        try:
            return str(self.take(count), "utf-8")
        except UnicodeDecodeError:
            raise _Broken("a name is not UTF-8") from None

    def items(self, count: int) -> list[Any]:
        return [self.value() for _ in range(count)]

    def entries(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.value()
            if not isinstance(key, str) or key in found:
                raise _Broken("expected names, each once")
            found[key] = self.value()
        return found

    def extension(self, count: int) -> np.ndarray:
        kind, payload = self.number("b"), self.take(count)
        if kind != _ARRAY:
            raise _Broken(f"it has the unknown extension {kind}")
        packed = _Reader(payload, self._depth).value()
        try:
            shape, dtype, data = packed
            if isinstance(dtype, memoryview):
                dtype = str(dtype, "utf-8")
            array = np.frombuffer(data, _DTYPES[dtype])
            if math.prod(shape) != len(array):
                raise _Broken("an array has another size than its shape")
            array = array.reshape(shape)
        except KeyError:
            raise _Broken(f"it holds {dtype!r}, not {', '.join(_DTYPES)}") from None
        except (TypeError, ValueError):
            raise _Broken("an array is not whole") from None
        return widened(array) if dtype == "bfloat16" else array


def _sized(form: str, read: Callable[[_Reader, int], Any]) -> Callable[[_Reader], Any]:
    return lambda reader: read(reader, reader.number(form))


def _plain(form: str) -> Callable[[_Reader], Any]:
    return lambda reader: reader.number(form)


def _fixed(count: int) -> Callable[[_Reader], Any]:
    return lambda reader: reader.extension(count)


_READ: dict[int, Callable[[_Reader], Any]] = {
    0xC0: lambda reader: None,
    0xC2: lambda reader: False,
    0xC3: lambda reader: True,
    **{0xC4 + i: _sized(f, _Reader.take) for i, f in enumerate("BHI")},
    **{0xC7 + i: _sized(f, _Reader.extension) for i, f in enumerate("BHI")},
    **{0xCA + i: _plain(form) for i, form in enumerate("fdBHIQbhiq")},
    **{0xD4 + i: _fixed(2**i) for i in range(5)},
    **{0xD9 + i: _sized(f, _Reader.text) for i, f in enumerate("BHI")},
    **{0xDC + i: _sized(f, _Reader.items) for i, f in enumerate("HI")},
    **{0xDE + i: _sized(f, _Reader.entries) for i, f in enumerate("HI")},
}
