"""The files of a KerasHub preset, checked before KerasHub reads them.

KerasHub reads JSON and HDF5 as they come. What is damaged would end in any exception, a
pipe would never end, and a file may declare far more than it holds.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from simcse_tf.checkpoints.sizes import check_sizes
from simcse_tf.core.errors import UserError
from simcse_tf.core.json_files import read_json, shortened, shown
from simcse_tf.core.regular_files import check_file, is_there

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TASK = "task.json"
PREPROCESSOR = "preprocessor.json"
_WEIGHTS = "model.weights.h5"
_PARTS = "model.weights.json"
_PACKAGES = ("keras", "keras_hub")


def check_preset(directory: Path) -> None:
    """Checks the files of a preset.

    Args:
        directory: The preset's directory.

    Raises:
        UserError: If one is missing, broken or no file, names a class of another
            package, or holds less than it declares.

    Example:

    ```python
    check_preset(Path("models/mine"))
    ```
    """
    config = _serialized(directory / CONFIG)
    _serialized(directory / TOKENIZER)
    for name in (TASK, PREPROCESSOR):
        if is_there(directory / name):
            _serialized(directory / name)
    if (directory / "assets").is_dir():
        for path in (directory / "assets").rglob("*"):
            if path.suffix == ".json":
                read_json(path)
            elif not path.is_dir():
                check_file(path)
    held = sum(_check_weights(path) for path in _weight_files(directory))
    check_sizes(config["config"], held, str(directory / CONFIG))


def _serialized(path: Path) -> dict[str, Any]:
    """A layer as Keras writes one, with classes of Keras, KerasHub and the caller."""
    values = read_json(path)
    config = values.get("config") if isinstance(values, dict) else None
    if not isinstance(config, dict) or not config:
        raise UserError(
            f"{path}: expected a layer as KerasHub saves it, received {shown(values)}"
        )
    for each in _objects(values):
        module, name = each.get("module"), each.get("registered_name")
        package = str(module).partition(".")[0]
        registered = isinstance(name, str) and _is_of_caller(name)
        if module is not None and package not in _PACKAGES and not registered:
            raise UserError(
                f"{path} names the class {shown(each.get('class_name'))} of "
                f"{shown(module)}: expected one of KerasHub's, or a registered one"
            )
    return values


def _objects(values: Any) -> Iterator[dict[str, Any]]:
    if isinstance(values, dict):
        if "class_name" in values:
            yield values
        values = values.values()
    elif not isinstance(values, list):
        return
    for each in values:
        yield from _objects(each)


def _is_of_caller(name: str) -> bool:
    """Whether the calling program has registered a class of its own."""
    is_theirs = name.partition(">")[0] in _PACKAGES
    return not is_theirs and keras.saving.get_registered_object(name) is not None


def _weight_files(directory: Path) -> list[Path]:
    if is_there(directory / _WEIGHTS):
        return [directory / _WEIGHTS]
    index = directory / _PARTS
    if not is_there(index):
        raise UserError(f"{directory} holds no weights: expected {_WEIGHTS} in it")
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: expected a weight_map of layers to files")
    names = {
        name
        for place in places.values()
        for name in (place if isinstance(place, list) else [place])
    }
    for name in names:
        part = directory / str(name)
        if part.name != name or not is_there(part):
            raise UserError(
                f"{index} names {shortened(str(name))!r}, which is no file beside it"
            )
    return [directory / name for name in sorted(names)]


def _check_weights(path: Path) -> int:
    """Checks an HDF5 file, and counts its numbers."""
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            found = _datasets(file)
            places = sorted(_place(dataset) for dataset in found)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # What the library raises for a damaged file depends on where the damage is.
    except Exception as error:
        raise UserError(f"{path} is no whole HDF5 file: {error}") from None
    size = path.stat().st_size
    ends = [0, *(end for _, end, _ in places)]
    if any(begin < before for (begin, _, _), before in zip(places, ends, strict=False)):
        raise UserError(f"{path} is damaged: two of its arrays stand in one place")
    if ends[-1] > size:
        raise UserError(f"{path} ends too early: it has {size} bytes of {ends[-1]}")
    return sum(count for _, _, count in places)


def _datasets(group: h5py.Group, depth: int = 0) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    if depth > 32:
        raise UserError("its groups are nested deeper than any model's")
    for name in group:
        kind = group.get(name, getclass=True, getlink=True)
        if kind is not h5py.HardLink:
            raise UserError(f"{shortened(name)} is a link to elsewhere")
        child = group[name]
        if isinstance(child, h5py.Group):
            found += _datasets(child, depth + 1)
        else:
            found.append(child)
    return found


def _place(dataset: h5py.Dataset) -> tuple[int, int, int]:
    """Where an array begins and ends in the file, and how many numbers it has."""
    count = math.prod(dataset.shape)
    begin = dataset.id.get_offset()
    if not count:
        return 0, 0, 0
    if dataset.dtype.kind not in "fiu" or begin is None or dataset.external:
        raise UserError(
            f"{shortened(dataset.name)} is not stored as Keras stores weights"
        )
    return begin, begin + count * dataset.dtype.itemsize, count
