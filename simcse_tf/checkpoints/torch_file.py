"""PyTorch's `pytorch_model.bin` as arrays, without PyTorch and without running it."""

import io
import zipfile
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any

import numpy as np

from simcse_tf.checkpoints.bfloat16 import widened
from simcse_tf.checkpoints.restricted_pickle import (
    STORAGES,
    Storage,
    StridedTensor,
    read_pickle,
)
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import shortened

# The first pickle of a file that PyTorch before 1.6 wrote, and the second.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_COUNT_BYTES = 8


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a file that `torch.save` wrote, of any release since 0.4.

    Args:
        path: The file.

    Returns:
        Dictionary of arrays by name. bfloat16 becomes float32.

    Raises:
        UserError: If the file is broken, or its pickle holds anything but tensors
            by name; the message names it. Nothing of it is run.

    Example:

    ```python
    read_torch(Path("pytorch_model.bin"))["pooler.dense.bias"].shape  # (768,)
    ```
    """
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: download it again")
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path)
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise UserError(f"{path} is no whole PyTorch file: {error}") from None


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1]
        pickles = [name for name in pickles if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("expected one data.pkl in it, as torch.save writes")
        root = pickles[0].removesuffix("data.pkl")
        order = ">" if _text(archive, f"{root}byteorder", entries) == "big" else "<"

        if any(each.compress_type != zipfile.ZIP_STORED for each in entries.values()):
            raise UserError("it is compressed, which torch.save never does")

        # Entries may lie over each other.
        if sum(each.file_size for each in entries.values()) > path.stat().st_size:
            raise UserError("its parts are larger than the file")

        def numbers(storage: Storage) -> np.ndarray:
            name = f"{root}data/{storage.key}"
            dtype = np.dtype(order + STORAGES[storage.kind])
            entry = entries.get(name)
            if entry is None or entry.file_size != storage.size * dtype.itemsize:
                raise UserError(f"{name} is not there, or not whole")
            return np.frombuffer(archive.read(name), dtype)

        return _tensors(read_pickle(io.BytesIO(archive.read(pickles[0]))), numbers)


def _text(
    archive: zipfile.ZipFile, name: str, entries: dict[str, zipfile.ZipInfo]
) -> str:
    return archive.read(name).decode("ascii", "replace") if name in entries else ""


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        stream: IO[bytes] = content  # type: ignore[assignment]
        if read_pickle(stream) != _LEGACY_MAGIC:
            raise UserError("expected what torch.save writes")
        if read_pickle(stream) != _LEGACY_PROTOCOL:
            raise UserError("it is of an unknown version")
        system, saved, keys = (read_pickle(stream) for _ in range(3))
        little = not isinstance(system, dict) or system.get("little_endian", True)
        tensors = _found(saved).values()
        known = {each.storage.key: each.storage for each in tensors}
        if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
            raise UserError("it is broken: expected names of storages")
        if set(keys) != known.keys():
            raise UserError("it holds other storages than its tensors have")
        numbers = {
            key: _read_storage(stream, known[key], "<" if little else ">")
            for key in keys
        }
        return _tensors(saved, lambda storage: numbers[storage.key])


def _read_storage(stream: IO[bytes], storage: Storage, order: str) -> np.ndarray:
    dtype = np.dtype(order + STORAGES[storage.kind])
    count = int.from_bytes(stream.read(_COUNT_BYTES), "little")
    size = storage.size * dtype.itemsize
    data = stream.read(size)
    if count != storage.size or len(data) != size:
        raise UserError("it ends too early")
    return np.frombuffer(data, dtype)


def _found(saved: Any) -> dict[str, StridedTensor]:
    if not isinstance(saved, dict):
        raise UserError("expected a dictionary of tensors")
    for name, value in saved.items():
        if not isinstance(name, str) or not isinstance(value, StridedTensor):
            raise UserError(
                f"{shortened(str(name))} is a {type(value).__name__}: expected tensors "
                "by name, as transformers saves them"
            )
    return saved


def _tensors(
    saved: Any, numbers: Callable[[Storage], np.ndarray]
) -> dict[str, np.ndarray]:
    storages: dict[Storage, np.ndarray] = {}
    found = {}
    for name, tensor in _found(saved).items():
        storage = tensor.storage
        if storage not in storages:
            values = numbers(storage)
            is_bfloat16 = storage.kind == "torch BFloat16Storage"
            storages[storage] = widened(values) if is_bfloat16 else values
        try:
            found[name] = tensor.read(storages[storage])
        except UserError as error:
            raise UserError(f"{shortened(name)}: {error}") from None
    return found
