"""Files as `torch.save` writes them, without PyTorch."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from unittest.mock import patch

import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    # Bits: NumPy has no bfloat16.
    "uint16": "BFloat16Storage",
}


class Storage:
    """Numbers that tensors share."""

    def __init__(self, key: str, numbers: np.ndarray):
        self.key, self.numbers = key, numbers


class Tensor:
    """A view of a storage: offset, shape and strides count numbers, not bytes."""

    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def whole(key: str, array: np.ndarray) -> Tensor:
    """A tensor that has a storage for itself."""
    array = np.ascontiguousarray(array)
    strides = tuple(each // array.itemsize for each in array.strides)
    return Tensor(Storage(key, array.ravel()), array.shape, strides)


def pickled(content, legacy: bool = False, protocol: int = 2) -> bytes:
    """The pickle that names tensors and storages as PyTorch does."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}

    def rebuild():
        raise AssertionError

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    modules["torch._utils"]._rebuild_tensor_v2 = rebuild
    for name in _STORAGES.values():
        setattr(modules["torch"], name, type(name, (), {"__module__": "torch"}))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            kind = getattr(modules["torch"], _STORAGES[value.numbers.dtype.name])
            place = ("storage", kind, value.key, "cpu", len(value.numbers))
            return (*place, None) if legacy else place

    file = io.BytesIO()
    with patch.dict(sys.modules, modules):
        Pickler(file, protocol).dump(content)
    return file.getvalue()


def write_zip(path, content, storages=(), data=None, protocol=2, compression=0):
    """A file of PyTorch 1.6 or later; `data` in place of the pickle of `content`."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        data = pickled(content, protocol=protocol) if data is None else data
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for each in storages:
            archive.writestr(f"archive/data/{each.key}", each.numbers.tobytes())
        archive.writestr("archive/version", "3\n")


def write_legacy(path, content, storages=(), data=None):
    """A file of a PyTorch before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(each, 2) for each in (_LEGACY_MAGIC, 1001, system)]
    parts.append(pickled(content, legacy=True) if data is None else data)
    parts.append(pickle.dumps([each.key for each in storages], 2))
    for each in storages:
        parts.append(len(each.numbers).to_bytes(8, "little") + each.numbers.tobytes())
    path.write_bytes(b"".join(parts))
